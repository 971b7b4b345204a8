/** Random operators of ONNX: the same numbers in every run, others for other nodes, seeds and turns, and the right distributions. */
import { expect, test } from 'vitest';
import { floatTensor, intTensor, node, type OnnxParts } from '../bench/peers/onnx_writer.ts';
import { graphMessage, nodeMessage } from '../src/model/onnx/writer.ts';
import { tensor } from '../src/tensor/tensor.ts';
import { ran } from './onnx_cases.ts';
import { useGpu } from './support.ts';

useGpu();

const x = [{ name: 'x', shape: [1] }];
const drawing = (nodes: Buffer[], outputs: string[], initializers: Buffer[] = []): OnnxParts => ({ opset: 15, nodes, initializers, inputs: x, outputs });
const run = async (parts: OnnxParts) => (await ran('random', parts, { x: tensor([0]) })).map(({ data }) => data as number[]);
const normal = (name: string, seed?: number, count = 8) =>
  node('RandomNormal', [], [name], { shape: [count], ...(seed === undefined ? {} : { seed: { float: seed } }) });

test('a seed gives the same numbers to every node and run, another seed others', async () => {
  const parts = drawing([normal('a', 5), normal('b', 5), normal('c', 6), normal('d'), normal('e')], ['a', 'b', 'c', 'd', 'e']);
  const [a, b, c, d, e] = await run(parts);
  expect(b).toEqual(a);
  for (const other of [c, d, e]) expect(other).not.toEqual(a);
  expect(d).not.toEqual(e); // nodes without a seed have streams of their own
  expect(await run(parts)).toEqual([a, b, c, d, e]);
});

test('every turn of a loop draws others', async () => {
  const FLOAT = 1;
  const body = graphMessage({
    name: 'body',
    nodes: [nodeMessage('RandomUniform', [], ['drawn'], { shape: [3], seed: { float: 2 } }), nodeMessage('Identity', ['going'], ['on'])],
    inputs: [
      { name: 'turn', type: 7 },
      { name: 'going', type: 9 },
    ],
    outputs: [
      { name: 'on', type: 9 },
      { name: 'drawn', type: FLOAT },
    ],
    initializers: [],
  });
  const parts = drawing([node('Loop', ['two', ''], ['y'], { body: { graph: body } })], ['y'], [intTensor('two', [], [2])]);
  const [y] = await run(parts);
  expect(y.slice(0, 3)).not.toEqual(y.slice(3));
  expect((await run(parts))[0]).toEqual(y);
});

const COUNT = 40_000;
const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

test('means and variances are as asked', async () => {
  const [n, u, b, m] = await run(
    drawing(
      [
        node('RandomNormal', [], ['n'], { shape: [COUNT], mean: { float: 3 }, scale: { float: 2 } }),
        node('RandomUniformLike', ['n'], ['u'], { low: { float: -1 }, high: { float: 3 } }),
        node('Bernoulli', ['p'], ['b']),
        node('Multinomial', ['logits'], ['m'], { sample_size: COUNT, dtype: 6 }),
      ],
      ['n', 'u', 'b', 'm'],
      [floatTensor('p', [COUNT], new Float32Array(COUNT).fill(0.3)), floatTensor('logits', [1, 3], [Math.log(1), Math.log(2), Math.log(5)])],
    ),
  );
  // Five standard errors each.
  expect(Math.abs(mean(n) - 3)).toBeLessThan((5 * 2) / Math.sqrt(COUNT));
  expect(Math.abs(mean(n.map((value) => (value - 3) ** 2)) - 4)).toBeLessThan((5 * 4 * Math.SQRT2) / Math.sqrt(COUNT));
  expect(Math.min(...u.slice(0, 1000))).toBeGreaterThanOrEqual(-1);
  expect(Math.max(...u.slice(0, 1000))).toBeLessThanOrEqual(3);
  expect(Math.abs(mean(u) - 1)).toBeLessThan((5 * 4) / Math.sqrt(12 * COUNT));
  expect(Math.abs(mean(b) - 0.3)).toBeLessThan((5 * Math.sqrt(0.21)) / Math.sqrt(COUNT));
  [1, 2, 5].forEach((weight, each) => {
    const p = weight / 8;
    expect(Math.abs(mean(m.map((value) => Number(value === each))) - p)).toBeLessThan((5 * Math.sqrt(p * (1 - p))) / Math.sqrt(COUNT));
  });
});
