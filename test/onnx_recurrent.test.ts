/** Recurrent layers of ONNX against onnxruntime: directions, lengths, states, biases, peepholes, activations, clipping. */
import { test } from 'vitest';
import { floatTensor, node, rawTensor } from '../bench/peers/onnx_writer.ts';
import { numbers } from './onnx_graphs.ts';
import { agrees, ort } from './onnx_oracle.ts';
import { useGpu } from './support.ts';

useGpu();

const [T, N, I, H] = [5, 3, 7, 4];
const GATES = { RNN: 1, GRU: 3, LSTM: 4 };

interface Case {
  direction?: string;
  lengths?: number[];
  states?: boolean;
  bias?: boolean;
  peepholes?: boolean;
  attributes?: Record<string, number | { float: number }>;
}

const CASES: Record<string, Case> = {
  plain: {},
  reverse: { direction: 'reverse', bias: true },
  'both ways, with states': { direction: 'bidirectional', bias: true, states: true },
  'sequences of their own lengths': { bias: true, states: true, lengths: [2, 5, 1] },
  'both ways, lengths': { direction: 'bidirectional', bias: true, lengths: [5, 2, 3] },
  clipped: { bias: true, attributes: { clip: { float: 0.2 } } },
};

const rows = (Object.keys(GATES) as (keyof typeof GATES)[]).flatMap((op) => [
  ...Object.entries(CASES).map(([name, each]) => [op, name, each] as const),
  ...(op === 'GRU' ? [['GRU', 'reset after the product', { bias: true, states: true, attributes: { linear_before_reset: 1 } }] as const] : []),
  ...(op === 'LSTM' ? [['LSTM', 'peepholes', { bias: true, states: true, peepholes: true }] as const] : []),
]);

test.skipIf(!ort).each(rows)('%s: %s', async (op, name, { direction = 'forward', lengths, states, bias, peepholes, attributes }: Case) => {
  const d = direction === 'bidirectional' ? 2 : 1;
  const g = GATES[op];
  const constants: [string, number[]][] = [
    ['w', [d, g * H, I]],
    ['r', [d, g * H, H]],
    ...(bias ? ([['b', [d, 2 * g * H]]] as [string, number[]][]) : []),
    ...(states ? ([['h', [d, N, H]]] as [string, number[]][]) : []),
    ...(states && op === 'LSTM' ? ([['c', [d, N, H]]] as [string, number[]][]) : []),
    ...(peepholes ? ([['p', [d, 3 * H]]] as [string, number[]][]) : []),
  ];
  const has = (each: string) => (constants.some(([constant]) => constant === each) ? each : '');
  const size = (shape: number[]) => shape.reduce((product, extent) => product * extent, 1);
  const outputs = op === 'LSTM' ? ['y', 'y_h', 'y_c'] : ['y', 'y_h'];
  const inputs = ['x', 'w', 'r', has('b'), lengths ? 'lengths' : '', has('h'), ...(op === 'LSTM' ? [has('c'), has('p')] : [])];
  while (inputs.at(-1) === '') inputs.pop();
  await agrees(
    `${op}: ${name}`,
    {
      nodes: [node(op, inputs, outputs, { hidden_size: H, direction, ...attributes })],
      initializers: [
        ...constants.map(([constant, shape]) => floatTensor(constant, shape, numbers(constant, size(shape), 1))),
        ...(lengths ? [rawTensor('lengths', 6, [N], Int32Array.from(lengths))] : []),
      ],
      inputs: [{ name: 'x', shape: [T, N, I] }],
      outputs,
      opset: 14,
    },
    { x: { shape: [T, N, I], data: numbers('x', T * N * I, 1) } },
  );
});
