/** Branches, loops, scans and sequences of ONNX against onnxruntime; conditions of the GPU; what is refused. */
import { expect, test } from 'vitest';
import { floatTensor, intTensor, node, type OnnxParts, onnxBytes, rawTensor } from '../bench/peers/onnx_writer.ts';
import { noGrad } from '../src/autograd/tape.ts';
import { bytesAsSource } from '../src/data/bytes.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import { type Chunks, field, graphMessage, nodeMessage, type ValueInfo } from '../src/model/onnx/writer.ts';
import { memory, scope, scoped, tensor } from '../src/tensor/tensor.ts';
import { agrees, type Numbers, ort } from './onnx_oracle.ts';
import { useGpu } from './support.ts';

useGpu();

const [FLOAT, INT64, BOOL] = [1, 7, 9];
const info = (name: string, type: number, shape?: number[]): ValueInfo => ({ name, type, ...(shape ? { shape } : {}) });
const body = (nodes: Chunks[], inputs: ValueInfo[], outputs: ValueInfo[], initializers: Buffer[] = [], more: Chunks = []): { graph: Chunks } => ({
  graph: [...graphMessage({ name: 'body', nodes, inputs, outputs, initializers: initializers.map((each) => [each]) }), ...more],
});
/** A declared sequence of floats. */
const sequenceInfo = (name: string): Chunks => [...field(1, name), ...field(2, field(4, field(1, field(1, field(1, FLOAT)))))];
const n = nodeMessage;
const truth = (name: string, value: number) => rawTensor(name, BOOL, [], Uint8Array.of(value));
const scalar = (name: string, value: number) => intTensor(name, [], [value]);

interface Case {
  parts: OnnxParts;
  given: Record<string, Numbers>;
}

const x23: Numbers = { shape: [2, 3], data: [1, -2, 3, 4, 5.5, 6] };
const ask = (data: number): Numbers => ({ shape: [], data: [data], type: 'bool' });

/** y is x + w or x times a captured value; the branches hold constants of their own. */
const branches: OnnxParts = {
  opset: 16,
  nodes: [
    node('Mul', ['x', 'x'], ['squared']),
    node('If', ['ask'], ['y', 'z'], {
      then_branch: body(
        [n('Add', ['x', 'w'], ['sum']), n('Identity', ['squared'], ['same'])],
        [],
        [info('sum', FLOAT), info('same', FLOAT)],
        [floatTensor('w', [3], [1, 2, 3])],
      ),
      else_branch: body([n('Mul', ['squared', 'x'], ['product']), n('Identity', ['x'], ['other'])], [], [info('product', FLOAT), info('other', FLOAT)]),
    }),
  ],
  inputs: [
    { name: 'x', shape: [2, 3] },
    { name: 'ask', shape: [], type: BOOL },
  ],
  outputs: ['y', 'z'],
};

/** state ← state · x + 1, and its square; it goes on until the turn of the input `until`. */
const turning = (withLimit: boolean, initializers: Buffer[]): OnnxParts => ({
  opset: 13,
  nodes: [
    node('Loop', [withLimit ? 'most' : '', 'yes', 'x'], ['last', 'squares', 'turns'], {
      body: body(
        [
          n('Mul', ['state', 'x'], ['product']),
          n('Add', ['product', 'one'], ['next']),
          n('Mul', ['next', 'next'], ['square']),
          n('Sub', ['until', 'turn'], ['left']),
          n('Cast', ['left'], ['on'], { to: BOOL }),
          n('Identity', ['turn'], ['seen']),
        ],
        [info('turn', INT64, []), info('going', BOOL, []), info('state', FLOAT, [2, 3])],
        [info('on', BOOL, []), info('next', FLOAT, [2, 3]), info('square', FLOAT, [2, 3]), info('seen', INT64, [])],
      ),
    }),
  ],
  initializers: [truth('yes', 1), floatTensor('one', [], [1]), ...initializers],
  inputs: [
    { name: 'x', shape: [2, 3] },
    { name: 'until', shape: [], type: INT64 },
  ],
  outputs: ['last', 'squares', 'turns'],
  outputTypes: [FLOAT, FLOAT, INT64],
});
const until = (turn: number): Numbers => ({ shape: [], data: [turn], type: 'int64' });

/** A loop in a loop: Σ over i, j of x · (i + 1), with a long constant in the inner body. */
const nested: OnnxParts = {
  opset: 13,
  nodes: [
    node('Loop', ['three', '', 'x'], ['y'], {
      body: body(
        [
          n('Cast', ['i'], ['as float'], { to: FLOAT }),
          n('Add', ['as float', 'one'], ['factor']),
          n('Loop', ['two', '', 'outer state'], ['outer next'], {
            body: body(
              [n('Mul', ['long', 'factor'], ['scaled']), n('Add', ['inner state', 'scaled'], ['inner next']), n('Identity', ['inner going'], ['inner on'])],
              [info('j', INT64, []), info('inner going', BOOL, []), info('inner state', FLOAT)],
              [info('inner on', BOOL, []), info('inner next', FLOAT)],
              [
                floatTensor(
                  'long',
                  [1500],
                  Float32Array.from({ length: 1500 }, (_, i) => i / 8),
                ),
              ],
            ),
          }),
          n('Identity', ['going'], ['on']),
        ],
        [info('i', INT64, []), info('going', BOOL, []), info('outer state', FLOAT)],
        [info('on', BOOL, []), info('outer next', FLOAT)],
      ),
    }),
  ],
  initializers: [scalar('three', 3), scalar('two', 2), floatTensor('one', [], [1])],
  inputs: [{ name: 'x', shape: [1500] }],
  outputs: ['y'],
};

const scan = (opset: number, attributes: Record<string, number | number[]>, inputs: string[], given: OnnxParts['inputs']): OnnxParts => ({
  opset,
  nodes: [
    node('Scan', inputs, ['last', 'sums'], {
      num_scan_inputs: 1,
      ...attributes,
      body: body(
        [n('Add', ['state', 'part'], ['next']), n('Mul', ['next', 'next'], ['out'])],
        [info('state', FLOAT, [2]), info('part', FLOAT, [2])],
        [info('next', FLOAT, [2]), info('out', FLOAT, [2])],
      ),
    }),
  ],
  inputs: given,
  outputs: ['last', 'sums'],
});
const scanned = (attributes: Record<string, number | number[]>, shape: number[]): Case => ({
  parts: scan(
    11,
    attributes,
    ['s', 'x'],
    [
      { name: 's', shape: [2] },
      { name: 'x', shape },
    ],
  ),
  given: { s: { shape: [2], data: [0.5, -1] }, x: { shape, data: Array.from({ length: shape[0] * shape[1] }, (_, i) => i) } },
});

const sequence = (nodes: Buffer[], outputs: string[], types: number[], initializers: Buffer[] = []): Case => ({
  parts: { opset: 17, nodes, initializers, inputs: [{ name: 'x', shape: [2, 3] }], outputs, outputTypes: types },
  given: { x: x23 },
});

const CASES: Record<string, Case> = {
  'the first branch': { parts: branches, given: { x: x23, ask: ask(1) } },
  'the second branch': { parts: branches, given: { x: x23, ask: ask(0) } },
  'a loop with a limit': { parts: turning(true, [scalar('most', 4)]), given: { x: x23, until: until(9) } },
  'a loop that ends itself': { parts: turning(true, [scalar('most', 9)]), given: { x: x23, until: until(2) } },
  'a loop without a limit': { parts: turning(false, []), given: { x: x23, until: until(3) } },
  'a loop of no turns': { parts: turning(true, [scalar('most', 0)]), given: { x: x23, until: until(3) } },
  'a loop in a loop, with constants on the GPU': { parts: nested, given: { x: { shape: [1500], data: Array.from({ length: 1500 }, (_, i) => -i) } } },
  'a scan': scanned({}, [5, 2]),
  'a scan from behind': scanned({ scan_input_directions: [1] }, [5, 2]),
  'a scan along the second axis': scanned({ scan_input_axes: [1], scan_output_axes: [-1] }, [2, 5]),
  'a scan whose outputs are turned': scanned({ scan_output_directions: [1], scan_output_axes: [1] }, [4, 2]),
  'a scan of opset 8, in batches': {
    parts: scan(
      8,
      { directions: [1] },
      ['', 's', 'x'],
      [
        { name: 's', shape: [3, 2] },
        { name: 'x', shape: [3, 4, 2] },
      ],
    ),
    given: { s: { shape: [3, 2], data: [0, 1, 2, 3, 4, 5] }, x: { shape: [3, 4, 2], data: Array.from({ length: 24 }, (_, i) => i) } },
  },
  'a sequence that is taken apart and joined': sequence(
    [
      node('SplitToSequence', ['x'], ['s'], { axis: 1, keepdims: 0 }),
      node('SequenceAt', ['s', 'last'], ['one']),
      node('SequenceErase', ['s', 'zero'], ['rest']),
      node('SequenceInsert', ['rest', 'one', 'zero'], ['more']),
      node('ConcatFromSequence', ['more'], ['y'], { axis: -1, new_axis: 1 }),
      node('ConcatFromSequence', ['more'], ['z'], { axis: 0 }),
      node('SequenceLength', ['more'], ['count']),
    ],
    ['y', 'z', 'count'],
    [FLOAT, FLOAT, INT64],
    [scalar('zero', 0), scalar('last', -1)],
  ),
  'parts of two places': sequence(
    [node('SplitToSequence', ['x', 'two'], ['s'], { axis: 1 }), node('SequenceAt', ['s', 'one'], ['y']), node('SequenceLength', ['s'], ['count'])],
    ['y', 'count'],
    [FLOAT, INT64],
    [scalar('two', 2), scalar('one', 1)],
  ),
  'parts of given sizes': sequence(
    [node('SplitToSequence', ['x', 'sizes'], ['s'], { axis: 1 }), node('SequenceAt', ['s', 'one'], ['y'])],
    ['y'],
    [FLOAT],
    [intTensor('sizes', [3], [1, 2, 0]), scalar('one', 1)],
  ),
  'a sequence that a loop carries': sequence(
    [
      node('SequenceEmpty', [], ['empty'], { dtype: FLOAT }),
      node('SequenceInsert', ['empty', 'x'], ['s']),
      node('Loop', ['three', '', 's'], ['many'], {
        body: body(
          [
            n('SequenceAt', ['carried', 'turn'], ['one']),
            n('Add', ['one', 'x'], ['sum']),
            n('SequenceInsert', ['carried', 'sum'], ['next']),
            n('Identity', ['going'], ['on']),
          ],
          [info('turn', INT64, []), info('going', BOOL, [])],
          [info('on', BOOL, [])],
          [],
          [...field(11, sequenceInfo('carried')), ...field(12, sequenceInfo('next'))],
        ),
      }),
      node('ConcatFromSequence', ['many'], ['y'], { axis: 0 }),
    ],
    ['y'],
    [FLOAT],
    [scalar('three', 3)],
  ),
  'a graph for every element': sequence(
    [
      node('SequenceConstruct', ['x', 'w'], ['s']),
      node('SequenceMap', ['s', 'x'], ['sums', 'shapes'], {
        body: body(
          [n('Add', ['each', 'other'], ['sum']), n('Shape', ['each'], ['shape'])],
          [info('each', FLOAT), info('other', FLOAT)],
          [info('sum', FLOAT), info('shape', INT64)],
        ),
      }),
      node('ConcatFromSequence', ['sums'], ['y'], { axis: 0 }),
      node('ConcatFromSequence', ['shapes'], ['z'], { axis: 0 }),
    ],
    ['y', 'z'],
    [FLOAT, INT64],
    [floatTensor('w', [2, 3], [10, 20, 30, 40, 50, 60])],
  ),
  'an optional value': sequence(
    [node('Optional', ['x'], ['o']), node('OptionalHasElement', ['o'], ['has']), node('OptionalGetElement', ['o'], ['y'])],
    ['y', 'has'],
    [FLOAT, BOOL],
  ),
};

test.skipIf(!ort).each(Object.entries(CASES))('as onnxruntime: %s', (name, { parts, given }) => agrees(name, parts, given));

test('a condition that the GPU computes is waited for, or refused', async () => {
  // The mask of a dropout is on the GPU.
  const parts: OnnxParts = {
    opset: 13,
    nodes: [
      node('Dropout', ['x'], ['same', 'mask']),
      node('If', ['mask'], ['y'], {
        then_branch: body([n('Add', ['x', 'x'], ['sum'])], [], [info('sum', FLOAT)]),
        else_branch: body([n('Identity', ['x'], ['other'])], [], [info('other', FLOAT)]),
      }),
    ],
    inputs: [{ name: 'x', shape: [1] }],
    outputs: ['y'],
  };
  await scoped(async () => {
    const model = OnnxModel.load(bytesAsSource('model', onnxBytes(parts)));
    const inputs = { x: tensor([3]) };
    const [y] = await model.computeAsync(inputs);
    expect(Array.from(await (y as typeof inputs.x).data())).toEqual([6]);
    expect(() => noGrad(() => model.compute(inputs))).toThrow(/"mask"\) is needed on the host, but the GPU computes it/);
    model.dispose();
  });
});

test('a loop on the GPU leaves nothing behind', async () => {
  const parts: OnnxParts = {
    opset: 13,
    nodes: [
      node('Loop', ['most', '', 'x'], ['last', 'means'], {
        body: body(
          [
            n('Add', ['state', 'x'], ['next']),
            n('Mul', ['next', 'next'], ['square']),
            n('ReduceMean', ['square'], ['mean'], { keepdims: 0 }),
            n('Identity', ['going'], ['on']),
          ],
          [info('turn', INT64, []), info('going', BOOL, []), info('state', FLOAT)],
          [info('on', BOOL, []), info('next', FLOAT), info('mean', FLOAT)],
        ),
      }),
    ],
    initializers: [scalar('most', 40)],
    inputs: [{ name: 'x', shape: [4096] }],
    outputs: ['last', 'means'],
  };
  const model = OnnxModel.load(bytesAsSource('model', onnxBytes(parts)));
  const before = memory();
  {
    using _s = scope();
    const x = tensor(new Float32Array(4096).fill(0.5));
    const [last, means] = noGrad(() => model.run({ x }));
    expect([last.shape, means.shape]).toEqual([[4096], [40]]);
    expect(Array.from(await means.data())).toEqual(Array.from({ length: 40 }, (_, i) => ((i + 2) / 2) ** 2));
  }
  expect(memory().tensors).toBe(before.tensors);
  model.dispose();
});

const turns = (nodes: Chunks[], outputs: ValueInfo[], inputs = [info('turn', INT64, []), info('going', BOOL, [])], node0: Buffer[] = []): OnnxParts => ({
  opset: 13,
  nodes: [...node0, node('Loop', ['most', '', ...(inputs.length > 2 ? ['x'] : [])], ['y'], { body: body(nodes, inputs, outputs) })],
  initializers: [scalar('most', 2 ** 40)],
  inputs: [{ name: 'x', shape: [2] }],
  outputs: ['y'],
});

const REFUSED: Record<string, [OnnxParts, RegExp]> = {
  'outputs that pile up': [
    turns([n('Identity', ['going'], ['on']), n('Expand', ['x', 'wide'], ['large'])], [info('on', BOOL), info('large', FLOAT)], undefined, [
      node('Constant', [], ['wide'], { value: { tensor: [intTensor('', [2], [2 ** 20, 2])] } }),
    ]),
    /numbers, with \d+ there; a file and inputs of this size may hold/,
  ],
  'a condition that is no truth value': [
    turns([n('Identity', ['turn'], ['on'])], [info('on', INT64), info('turn', INT64)]),
    /its condition is int64 \[\], one truth value is expected/,
  ],
  'a body of other inputs': [
    turns(
      [n('Identity', ['going'], ['on'])],
      [info('on', BOOL), info('turn', INT64)],
      [info('turn', INT64), info('going', BOOL), info('a', FLOAT), info('b', FLOAT)],
    ),
    /its graph has 4 inputs/,
  ],
  'no turn, and no type': [
    {
      opset: 13,
      nodes: [
        node('Loop', ['most', ''], ['y'], {
          body: body([n('Identity', ['going'], ['on'])], [info('turn', INT64), info('going', BOOL)], [info('on', BOOL), info('turn', 0)]),
        }),
      ],
      initializers: [scalar('most', 0)],
      inputs: [{ name: 'x', shape: [2] }],
      outputs: ['y'],
    },
    /no turn was taken, and its graph does not declare the type of its output/,
  ],
  'a place behind a sequence': [
    {
      opset: 13,
      nodes: [node('SequenceConstruct', ['x', 'x'], ['s']), node('SequenceAt', ['s', 'two'], ['y'])],
      initializers: [scalar('two', 2)],
      inputs: [{ name: 'x', shape: [2] }],
      outputs: ['y'],
    },
    /place 2 of a sequence of 2/,
  ],
  'floats and whole numbers in one sequence': [
    {
      opset: 13,
      nodes: [node('SequenceConstruct', ['x', 'two'], ['s']), node('SequenceLength', ['s'], ['y'])],
      initializers: [scalar('two', 2)],
      inputs: [{ name: 'x', shape: [2] }],
      outputs: ['y'],
    },
    /float and int64 in one sequence/,
  ],
  'an element of nothing': [
    {
      opset: 15,
      nodes: [node('Optional', [], ['o']), node('OptionalGetElement', ['o'], ['y'])],
      inputs: [{ name: 'x', shape: [2] }],
      outputs: ['y'],
    },
    /holds no value/,
  ],
};

test.each(Object.entries(REFUSED))('refused: %s', async (_name, [parts, message]) => {
  const load = async () =>
    scoped(async () => {
      const model = OnnxModel.load(bytesAsSource('model', onnxBytes(parts)));
      try {
        return await model.computeAsync(Object.fromEntries(parts.inputs.map(({ name, shape }) => [name, tensor(new Float32Array(2), shape)])));
      } finally {
        model.dispose();
      }
    });
  await expect(load()).rejects.toThrow(message);
});
