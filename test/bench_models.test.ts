/** Models from files in the benchmarks: which model a file holds, and the vision transformer of a peer beside ours. */
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { catalog, type ModelFile, select } from '../bench/catalog.ts';
import { recognizedModels } from '../bench/model_files.ts';
import { withPlainVersions } from '../bench/models.ts';
import { type Attributes, field, floatTensor, intTensor, node, type OnnxParts, writeOnnx } from '../bench/peers/onnx_writer.ts';
import { PeerProcess } from '../bench/peers/process.ts';
import { oraclesInstalled } from '../bench/peers/untyped.ts';
import { compare } from '../bench/reference.ts';
import { vitWeights } from '../bench/vit_weights.ts';
import { numbers, PATCHES, pictureInputs, type VitWork } from '../bench/work.ts';
import { noGrad } from '../src/autograd/tape.ts';
import { openFile } from '../src/data/file_source.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import { sizeOf } from '../src/tensor/shape.ts';
import { scope, tensor } from '../src/tensor/tensor.ts';
import { dataFolder, glimpse, temporaryFolder, useGpu } from './support.ts';

const folder = temporaryFolder();
const path = (name: string) => join(folder, name);

/** A weight that says where its numbers would lie: they are never read. */
function absent(name: string, shape: readonly number[]): Buffer {
  const location = field(13, Buffer.concat([field(1, 'location'), field(2, 'weights.data')]));
  return Buffer.concat([...shape.map((extent) => field(1, extent)), field(2, 1), field(8, name), location, field(14, 1)]);
}

/** A graph that is a chain of nodes with one weight each, as far as it matters for telling models apart. */
function chain(name: string, weights: readonly (readonly [op: string, shape: readonly number[]])[], input = [1, 3, 224, 224]): string {
  const nodes = weights.map(([op], i) => node(op, [i === 0 ? 'x' : `v${i}`, `w${i}`], [i === weights.length - 1 ? 'y' : `v${i + 1}`]));
  const initializers = weights.map(([, shape], i) => absent(`w${i}`, shape));
  writeOnnx(path(name), { nodes, initializers, inputs: [{ name: 'x', shape: input }], outputs: ['y'] });
  return path(name);
}

/** The convolutions of ResNet-50, its inner ones `wider` times as wide. */
function resnetWeights(wider = 1): (readonly [string, number[]])[] {
  const convolutions: number[][] = [[64, 3, 7, 7]];
  let from = 64;
  const stages = [3, 4, 6, 3].map((count, i) => ({ count, out: 256 << i }));
  for (const { count, out } of stages)
    for (let i = 0; i < count; i++) {
      const inner = (out / 4) * wider;
      convolutions.push([inner, from, 1, 1], [inner, inner, 3, 3], [out, inner, 1, 1], ...(i === 0 ? [[out, from, 1, 1]] : []));
      from = out;
    }
  return [...convolutions.map((shape) => ['Conv', shape] as const), ['Gemm', [1000, 2048]]];
}

const vitWeightShapes = (blocks: number): (readonly [string, readonly number[]])[] => [
  ['Conv', [768, 3, 16, 16]],
  ['Add', [1, 197, 768]],
  ...Array.from({ length: blocks }, () => ['Softmax', [1]] as const),
  ['Gemm', [1000, 768]],
];

describe('a file of --model', () => {
  const resnet = chain('resnet50.onnx', resnetWeights());
  const open = chain('open.onnx', resnetWeights(), [-1, 3, 224, 224]);
  const vit = chain('vit.onnx', vitWeightShapes(12));

  test('is told by its graph, whatever its place in the line', async () => {
    const expected = [
      { name: 'resnet50', path: resnet, images: 1 },
      { name: 'vit-b-16', path: vit, images: 1 },
    ];
    expect(await recognizedModels([resnet, vit])).toEqual(expected);
    expect(await recognizedModels([vit, resnet])).toEqual(expected.toReversed());
    expect(await recognizedModels([open])).toEqual([{ name: 'resnet50', path: open, images: null }]);
    expect(await recognizedModels([])).toEqual([]);
  });

  const data = dataFolder('the real ResNet-50 of --model');
  test.skipIf(!data)('is ResNet-50 as it is published, compressed', async () => {
    expect(await recognizedModels([join(data as string, 'resnet50', 'resnet50.onnx.gz')])).toMatchObject([{ name: 'resnet50' }]);
  });

  test.each<[string, () => string, RegExp]>([
    [
      'wider blocks',
      () => chain('wide.onnx', resnetWeights(2)),
      /holds neither ResNet-50 nor ViT-B\/16 .*: it has 53 convolutions with 66766016 weights and 0/,
    ],
    ['other classes', () => chain('ten.onnx', [...resnetWeights().slice(0, -1), ['Gemm', [10, 2048]]]), /holds neither/],
    ['fewer blocks', () => chain('shallow.onnx', vitWeightShapes(11)), /1 convolutions with 589824 weights and 11 nodes of attention/],
    [
      'pictures with channels last',
      () => chain('last.onnx', resnetWeights(), [1, 224, 224, 3]),
      /takes x \[1,224,224,3\], and not pictures \[N, 3, 224, 224\]/,
    ],
    ['larger pictures', () => chain('large.onnx', vitWeightShapes(12), [1, 3, 384, 384]), /takes x \[1,3,384,384\]/],
  ])('is refused for %s', async (_name, make, message) => {
    await expect(recognizedModels([make()])).rejects.toThrow(message);
  });

  test.each<[string[], 1 | 2, string]>([
    [['resnet50', 'vit-b-16', '--model', resnet, '--model', open], 2, `--model ${resnet} and --model ${open} both hold ResNet-50`],
    [['resnet50', 'vit-b-16', '--model', vit], 2, `resnet50 needs --model FILE (.onnx or .onnx.gz)\n  ${vit} is of vit-b-16`],
    [['vit-b-16', '--model', resnet, '--model', vit], 2, `--model ${resnet}: is of resnet50, which is not asked for`],
    [['resnet50', '--model', path('none.onnx')], 2, 'no such file'],
    [['resnet50', '--model', import.meta.filename], 1, 'bench_models.test.ts'],
  ])('bench %j is refused before a device opens', async (args, code, message) => {
    const outcome = await glimpse('bench', ...args);
    expect(outcome).toMatchObject({ code, stdout: '', stderr: expect.stringContaining(message) });
    expect(outcome.stderr).not.toContain('adapter:');
  });

  test('is timed with as many pictures as it takes, and what is left out is told', () => {
    const files = (images: number | null): ModelFile[] => [
      { name: 'vit-b-16', path: 'v.onnx', images },
      { name: 'resnet50', path: 'r.onnx', images },
    ];
    const timed = (images: number | null, ...names: string[]) => {
      const { benchmarks, leftOut } = select(names, undefined, files(images), false);
      return [benchmarks.filter(({ large }) => !large).map(({ name, shape, work }) => `${name} ${shape} ${'model' in work && work.model}`), leftOut];
    };
    const names = ['resnet50', 'vit-b-16'];
    expect(timed(null, ...names)).toEqual([['resnet50 batch 1 r.onnx', 'resnet50 batch 8 r.onnx', 'vit-b-16 batch 1 v.onnx'], []]);
    expect(timed(1, ...names)).toEqual([['resnet50 batch 1 r.onnx', 'vit-b-16 batch 1 v.onnx'], ['resnet50 batch 8 (r.onnx takes 1 at a time)']]);
    expect(timed(8, ...names)[0]).toEqual(['resnet50 batch 8 r.onnx', 'vit-b-16 batch 8 v.onnx']);
    expect(select(names, undefined, files(null), false).benchmarks.flatMap(({ large, shape }) => (large ? [shape] : []))).toEqual(['batch 64', 'batch 64']);
    const all = select(['all'], undefined, files(null), false);
    expect(all.benchmarks).toEqual(catalog(files(null)));
    expect(select([], undefined, [], false).leftOut).toEqual([
      'resnet50 (it needs --model FILE)',
      'vit-b-16 (it needs --model FILE)',
      'first-caption (it needs --run FOLDER and --picture FILE)',
    ]);
  });
});

describe('a vision transformer', () => {
  useGpu();
  const work: VitWork = { kind: 'vit', images: 2, model: path('tiny.onnx'), blocks: 2, width: 12, heads: 3, hidden: 20, classes: 7 };

  /** A transformer of two blocks in the form that torchvision's is exported in. All weights differ, but for one bias of two norms. */
  function tiny({ images, blocks, width, heads, hidden, classes }: VitWork): OnnxParts {
    const [nodes, initializers]: [Buffer[], Buffer[]] = [[], []];
    const tokens = PATCHES + 1;
    let [seed, count] = [40, 0];
    const weight = (...shape: number[]) => {
      const name = `onnx::w_${seed}`;
      initializers.push(floatTensor(name, shape, numbers(sizeOf(shape), seed++, 0.5)));
      return name;
    };
    const list = (...values: number[]) => {
      const name = `list_${seed++}`;
      initializers.push(intTensor(name, [values.length], values));
      return name;
    };
    const number = (value: number) => {
      const name = `number_${seed++}`;
      initializers.push(floatTensor(name, [], [value]));
      return name;
    };
    const add = (op: string, inputs: string[], attributes: Attributes = {}, output = `v${count++}`) => {
      nodes.push(node(op, inputs, [output], attributes));
      return output;
    };
    const shared = weight(width);
    const norm = (x: string, bias: string) => add('LayerNormalization', [x, weight(width), bias], { axis: -1, epsilon: { float: 1e-6 } });
    const product = (x: string, inputs: number, outputs: number) => add('Add', [weight(outputs), add('MatMul', [x, weight(inputs, outputs)])]);
    const gemm = (x: string, inputs: number, outputs: number, output?: string) =>
      add('Gemm', [x, weight(outputs, inputs), weight(outputs)], { transB: 1 }, output);
    const patches = add('Conv', ['x', weight(width, 3, 16, 16), weight(width)], { kernel_shape: [16, 16], strides: [16, 16] });
    const rows = add('Transpose', [add('Reshape', [patches, list(images, width, PATCHES)])], { perm: [0, 2, 1] });
    const first = add('Expand', [weight(1, 1, width), list(images, 1, width)]);
    let x = add('Add', [add('Concat', [first, rows], { axis: 1 }), weight(1, tokens, width)]);
    for (let block = 0; block < blocks; block++) {
      const each = width / heads;
      const all = product(norm(x, block === 0 ? shared : add('Identity', [shared])), width, 3 * width);
      const [q, k, v] = [0, 1, 2].map((which) => {
        const own = add('Slice', [all, list(which * width), list((which + 1) * width), list(2)]);
        return add('Transpose', [add('Reshape', [own, list(images, tokens, heads, each)])], { perm: [0, 2, 1, 3] });
      });
      const scaled = add('Mul', [q, number(1 / Math.sqrt(each))]);
      const shares = add('Softmax', [add('MatMul', [scaled, add('Transpose', [k], { perm: [0, 1, 3, 2] })])], { axis: -1 });
      const mixed = add('Transpose', [add('MatMul', [shares, v])], { perm: [0, 2, 1, 3] });
      const out = gemm(add('Reshape', [mixed, list(images * tokens, width)]), width, width);
      const y = add('Add', [x, add('Reshape', [out, list(images, tokens, width)])]);
      const wide = product(norm(y, weight(width)), width, hidden);
      const erf = add('Add', [add('Erf', [add('Div', [wide, number(Math.SQRT2)])]), number(1)]);
      x = add('Add', [y, product(add('Mul', [add('Mul', [wide, erf]), number(0.5)]), hidden, width)]);
    }
    initializers.push(intTensor('zero', [], [0]));
    gemm(add('Gather', [norm(x, weight(width)), 'zero'], { axis: 1 }), width, classes, 'y');
    return { nodes, initializers, inputs: [{ name: 'x', shape: [images, 3, 224, 224] }], outputs: ['y'], opset: 17 };
  }

  test.skipIf(!oraclesInstalled()).each(['tfjs-wasm', 'tfjs-webgpu'])(
    'in %s has the logits of ours, on the weights of the file',
    async (name) => {
      writeOnnx(work.model, tiny(work));
      const peer = new PeerProcess(name, '', false);
      expect(await peer.ask({ kind: 'prepare', work })).toMatchObject({ kind: 'prepared', coldMs: expect.any(Number) });
      const answer = await peer.ask({ kind: 'finish' });
      peer.close();
      if (answer.kind !== 'finished') throw new Error(JSON.stringify(answer));
      const model = OnnxModel.load(openFile(work.model));
      using _run = scope();
      const logits = noGrad(() => withPlainVersions(() => model.run({ x: tensor(pictureInputs(work.images, answer.set), [work.images, 3, 224, 224]) })[0]));
      const expected = { values: await logits.data(), shape: [work.images, work.classes], tolerance: 1e-5, against: 'ours' };
      model.dispose();
      expect(answer.set).toBe(1); // not the pictures of the runs before
      expect(compare(answer.result ?? [], expected)).toMatchObject({ wrong: null, checked: 14 });
    },
    120_000,
  );

  test('in another form has no weights to take: what is missing is told', async () => {
    writeOnnx(work.model, tiny(work));
    const weights = await vitWeights(work);
    expect(weights.blocks[1].norm1.bias).toEqual(weights.blocks[0].norm1.bias); // through the Identity node
    expect(weights.blocks[0].attend.weight.shape).toEqual([12, 36]);
    expect(weights.epsilon).toBeCloseTo(1e-6, 10);
    await expect(vitWeights({ ...work, blocks: 3 })).rejects.toThrow(/tiny\.onnx: has 10 weights \[12\] at LayerNormalization nodes, not 14: /);
    await expect(vitWeights({ ...work, hidden: 21 })).rejects.toThrow(/has 0 weights \[12, 21\] at MatMul nodes, not 2/);
  });
});
