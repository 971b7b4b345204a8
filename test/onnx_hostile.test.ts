/** Small files that ask for much: memory, time, depth. Each is refused by name and reason, or done at once. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { type Attributes, field, floatTensor, intTensor, node, type OnnxParts, onnxBytes, rawTensor, varint } from '../bench/peers/onnx_writer.ts';
import * as ops from '../src/autograd/ops/index.ts';
import { backward, gradOf } from '../src/autograd/tape.ts';
import { bytesAsSource } from '../src/data/bytes.ts';
import { openFile } from '../src/data/file_source.ts';
import { Budget } from '../src/model/onnx/operator.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import { sizeOfValue } from '../src/model/onnx/values.ts';
import { graphMessage } from '../src/model/onnx/writer.ts';
import { memory, Scope, scoped, type Tensor, tensor, zeros } from '../src/tensor/tensor.ts';
import { computedMs, temporaryFolder, useGpu } from './support.ts';

const device = useGpu();
const folder = temporaryFolder();

const [FLOAT, UINT8, INT64, STRING, BOOL] = [1, 2, 7, 8, 9];
/** A tensor of no elements. */
const nothing = (name: string, shape: number[], type = FLOAT): Buffer => rawTensor(name, type, shape, new Uint8Array(0));
const ones = (name: string, shape: number[]): Buffer => floatTensor(name, shape, new Float32Array(shape.reduce((size, extent) => size * extent, 1)).fill(1));
const numberTensor = (name: string, value: number): Buffer => intTensor(name, [], [value]);
const value = (name: string, type: number) => ({ name, type });
type Declared = ReturnType<typeof value>;
const within = (nodes: Buffer[], inputs: Declared[], outputs: Declared[], initializers: Buffer[] = []) => ({
  graph: graphMessage({ name: 'body', nodes: nodes.map((each) => [each]), initializers: initializers.map((each) => [each]), inputs, outputs }),
});

/** A graph of one node without inputs but constants. */
const single = (op: string, inputs: string[], initializers: Buffer[], attributes: Attributes = {}, opset = 13): OnnxParts => ({
  ...{ opset, nodes: [node(op, inputs, ['y'], attributes)], initializers, inputs: [], outputs: ['y'] },
});
/** A constant of no elements, whose shape comes of a Reshape: the file's own check does not see it. */
const reshaped = (shape: number[], ...nodes: Buffer[]): OnnxParts => ({
  opset: 14,
  nodes: [node('Reshape', ['none', 'shape'], ['x'], { allowzero: 1 }), ...nodes],
  initializers: [nothing('none', [0]), intTensor('shape', [shape.length], shape)],
  inputs: [],
  outputs: ['y'],
});
const adding = (parts: OnnxParts, ...more: Buffer[]): OnnxParts => ({ ...parts, initializers: [...(parts.initializers ?? []), ...more] });

/** `turns` turns of a loop over a value. */
const looping = (turns: number, first: string, type: number, nodes: Buffer[], initializers: Buffer[], opset = 16): OnnxParts => ({
  opset,
  nodes: [
    node('Loop', ['turns', '', first], ['y'], {
      body: within(
        [node('Identity', ['going'], ['on']), ...nodes],
        [value('turn', INT64), value('going', BOOL), value('a', type)],
        [value('on', BOOL), value('b', type)],
      ),
    }),
  ],
  initializers: [numberTensor('turns', turns), ...initializers],
  inputs: [],
  outputs: ['y'],
});

const attributeInts = (name: string, values: readonly number[]): Buffer => {
  const packed = Buffer.concat(values.map(varint));
  return field(5, Buffer.concat([field(1, name), field(8, packed), field(20, 7)]));
};
const longText = (name: string, length: number): Buffer => Buffer.concat([field(2, STRING), field(1, 1), field(6, 'a'.repeat(length)), field(8, name)]);

/** A function of domain "my". */
const functionBytes = (name: string, inputs: string[], outputs: string[], nodes: Buffer[], attributes: string[] = []): Buffer =>
  field(
    25,
    Buffer.concat([
      field(1, name),
      ...inputs.map((each) => field(4, each)),
      ...outputs.map((each) => field(5, each)),
      ...attributes.map((each) => field(6, each)),
      ...nodes.map((each) => field(7, each)),
      field(9, Buffer.concat([field(1, ''), field(2, 13)])),
      field(10, 'my'),
    ]),
  );
const call = (op: string, inputs: string[], outputs: string[], attributes: Attributes = {}): Buffer =>
  Buffer.concat([node(op, inputs, outputs, attributes), field(7, 'my')]);
const negated = (count: number, tag: string): Attributes[string] =>
  within(
    Array.from({ length: count }, (_, i) => node('Neg', [i === 0 ? 'a' : tag + i], [tag + (i + 1)])),
    [],
    [value(tag + count, FLOAT)],
  );
/** The node with both branches given by an attribute of the function that it stands in. */
const referring = (bytes: Buffer, name: string): Buffer =>
  Buffer.concat([bytes, ...['then_branch', 'else_branch'].map((each) => field(5, Buffer.concat([field(1, each), field(20, 5), field(21, name)])))]);
const MINE = field(8, Buffer.concat([field(1, 'my'), field(2, 1)]));

const HUGE = 2 ** 40;
/** As many as a tensor may have, beside an extent of 0. */
const WIDE = 2 ** 29;
const optional = node('Optional', ['a'], ['b']);
const gram = (count: number, output = 'b'): Buffer =>
  Buffer.concat([
    node('TfIdfVectorizer', ['x'], [output], { max_gram_length: 1, min_gram_length: 1, max_skip_count: 0, mode: 'TF', ngram_counts: [0] }),
    attributeInts('ngram_indexes', new Array<number>(count).fill(0)),
    attributeInts(
      'pool_int64s',
      Array.from({ length: count }, (_, i) => i),
    ),
  ]);

type Case = [OnnxParts | Buffer, RegExp | null];
/** Null: it is computed. */
const CASES: Record<string, Case> = {
  // Extents beside one of 0
  'a constant of nothing with a giant extent': [
    single('Relu', ['x'], [nothing('x', [0, HUGE])]),
    /tensor "x" \[0,1099511627776\] has more than 536870912 elements, its extents of 0 aside/,
  ],
  'a sparse one': [
    {
      ...single('Relu', ['x'], []),
      sparse: [Buffer.concat([field(1, floatTensor('x', [0], [])), field(2, intTensor('', [0], [])), field(3, 0), field(3, HUGE)])],
    },
    /sparse tensor "x" \[0,1099511627776\] has more than/,
  ],
  'a Reshape to giant extents': [reshaped([HUGE, 0], node('Relu', ['x'], ['y'])), /\(Relu\): \[1099511627776,0\] has more than 536870912 elements/],
  'two giants and a 0': [reshaped([2 ** 52, 2 ** 52, 0], node('Relu', ['x'], ['y'])), /\(Relu\): \[.*,0\] has more than 536870912 elements/],
  'extents whose product is too large': [reshaped([2 ** 20, 2 ** 20, 0], node('Relu', ['x'], ['y'])), /\(Relu\): \[.*,0\] has more than 536870912 elements/],
  'an Expand of nothing': [
    single('Expand', ['x', 's'], [nothing('x', [0, 1]), intTensor('s', [2], [1, HUGE])]),
    /\(Expand\): \[0,1099511627776\] has more than 536870912 elements/,
  ],
  'a ConstantOfShape of nothing': [single('ConstantOfShape', ['s'], [intTensor('s', [2], [HUGE, 0])]), /\[1099511627776,0\] has more than 536870912 elements/],
  'EyeLike of nothing': [reshaped([WIDE, 0], node('EyeLike', ['x'], ['y'])), null],
  'EyeLike of whole numbers below its diagonal': [single('EyeLike', ['x'], [ones('x', [3, 5])], { k: -(2 ** 40) }), null],
  'NonMaxSuppression of no boxes': [
    {
      ...single('NonMaxSuppression', ['b', 's', 'm'], [nothing('b', [2 ** 14, 0, 4]), nothing('s', [2 ** 14, 2 ** 14, 0]), numberTensor('m', 1)]),
      outputTypes: [INT64],
    },
    null,
  ],
  'a Scan of nothing': [
    reshaped(
      [WIDE, 0],
      node('Scan', ['x'], ['y'], { num_scan_inputs: 1, body: within([node('Neg', ['e'], ['o'])], [value('e', FLOAT)], [value('o', FLOAT)]) }),
    ),
    /\(Scan\): 536870912 turns of 1 nodes; at most 4194304 nodes may be run/,
  ],
  'LRN of nothing': [reshaped([0, WIDE, 1], node('LRN', ['x'], ['y'], { size: 2 ** 30 })), null],
  'LRN over more channels than there are': [single('LRN', ['x'], [ones('x', [1, 3, 2])], { size: 2 ** 30 }), null],
  'an RNN of nothing': [
    adding(reshaped([WIDE, 0, 1], node('RNN', ['x', 'w', 'r'], ['', 'y'], { hidden_size: 1 })), ones('w', [1, 1, 1]), ones('r', [1, 1, 1])),
    null,
  ],
  'an LSTM of giant steps': [
    adding(reshaped([WIDE, 0, 1], node('LSTM', ['x', 'w', 'r'], ['', 'y'], { hidden_size: 1 })), ones('w', [1, 4, 1]), ones('r', [1, 4, 1])),
    /\(LSTM\): \[536870912,0,4,1\] has more than 536870912 elements/,
  ],
  'a GRU of no units': [
    adding(reshaped([2 ** 24, 1, 0], node('GRU', ['x', 'w', 'r'], ['', 'y'], { hidden_size: 0 })), nothing('w', [1, 0, 0]), nothing('r', [1, 0, 0])),
    null,
  ],
  'a Resize of nothing': [
    single('Resize', ['x', '', '', 'z'], [nothing('x', [0, 1, 4]), intTensor('z', [3], [0, 1, HUGE])]),
    /\(Resize\): \[0,1,1099511627776\] has more than 536870912 elements/,
  ],
  'a Resize of nothing to what may be': [single('Resize', ['x', '', '', 'z'], [nothing('x', [0, 1, 4]), intTensor('z', [3], [0, 1, WIDE])]), null],
  'InstanceNormalization of nothing': [
    adding(reshaped([0, 1, WIDE], node('InstanceNormalization', ['x', 's', 's'], ['y'])), ones('s', [1])),
    null, // the kernels take no width apart
  ],
  'LayerNormalization of nothing': [
    adding({ ...reshaped([0, WIDE], node('LayerNormalization', ['x', 's'], ['y'])), opset: 17 }, ones('s', [1])),
    /\(LayerNormalization\): \[536870912\] would be 536870912 numbers/,
  ],
  'ReverseSequence of nothing': [adding(reshaped([2 ** 28, 1, 0], node('ReverseSequence', ['x', 'l'], ['y'])), intTensor('l', [1], [1])), null],
  'RoiAlign of no channels': [
    single('RoiAlign', ['x', 'b', 'o'], [nothing('x', [1, 0, 1, 1]), ones('b', [1, 4]), intTensor('o', [1], [0])], {
      output_height: 2 ** 12,
      output_width: 2 ** 12,
    }),
    /\(RoiAlign\): \[1,1,4096,4096\] has more than 1048576 elements/,
  ],
  'RoiAlign of many points': [
    single('RoiAlign', ['x', 'b', 'o'], [nothing('x', [1, 0, 1, 1]), floatTensor('b', [1, 4], [0, 0, 1e30, -1e30]), intTensor('o', [1], [0])], {}, 16),
    /\(RoiAlign\): it reads .* pixels, at most/,
  ],
  'MaxRoiPool of no channels': [
    single('MaxRoiPool', ['x', 'b'], [nothing('x', [1, 0, 1, 1]), floatTensor('b', [1, 5], [0, 0, 0, 1, 1])], { pooled_shape: [2 ** 12, 2 ** 12] }),
    /\(MaxRoiPool\): \[1,1,4096,4096\] has more than 1048576 elements/,
  ],
  'GridSample of no channels': [
    { ...single('GridSample', ['x', 'g'], [nothing('x', [1, 0, 2, 2]), nothing('g', [1, WIDE, 0, 2])], {}, 16) },
    /tensor "g" .* has more than/,
  ],
  'MatMulInteger of no columns': [
    single('MatMulInteger', ['a', 'b'], [rawTensor('a', UINT8, [512, 512], new Uint8Array(512 * 512)), nothing('b', [2 ** 14, 512, 0], UINT8)]),
    /\(MatMulInteger\): .* is too much for the host/,
  ],
  'random numbers of negative extents': [{ ...single('RandomNormal', [], [], { shape: [-2, -3] }) }, /\(RandomNormal\): \[-2,-3\] has an extent of -2/],
  'random numbers of one': [{ ...single('RandomUniform', [], [], { shape: [-2, 3] }) }, /\(RandomUniform\): \[-2,3\] has an extent of -2/],
  'no samples': [single('Multinomial', ['x'], [ones('x', [1, 3])], { sample_size: 0 }), /\(Multinomial\): sample_size is 0, at least 1 is expected/],
  'fewer samples than none': [single('Multinomial', ['x'], [ones('x', [1, 3])], { sample_size: -1 }), /sample_size is -1/],

  // Depth
  'an optional of an optional': [
    {
      ...looping(12_000, 'o', FLOAT, [optional], []),
      nodes: [node('Optional', ['k'], ['o']), ...looping(12_000, 'o', FLOAT, [optional], []).nodes],
      initializers: [ones('k', [1]), numberTensor('turns', 12_000)],
    },
    /\(Optional\): input 0 \("a"\) is an optional value; a tensor or a sequence is expected/,
  ],
  'functions that hold large graphs': [
    Buffer.concat([
      onnxBytes({
        nodes: Array.from({ length: 400 }, (_, i) => call('F', [i === 0 ? 'x' : `y${i}`, 'c'], [`y${i + 1}`])),
        inputs: [
          { name: 'x', shape: [2] },
          { name: 'c', shape: [], type: BOOL },
        ],
        outputs: ['y400'],
      }),
      MINE,
      functionBytes('F', ['a', 'c'], ['b'], [node('If', ['c'], ['b'], { then_branch: negated(500, 'p'), else_branch: negated(500, 'q') })]),
    ]),
    /its functions become more than 131072 nodes/,
  ],
  'functions that are given large graphs': [
    Buffer.concat([
      onnxBytes({
        nodes: Array.from({ length: 200 }, (_, i) =>
          call('F', ['x', 'c'], [`y${i + 1}`], {
            g: within(
              [...Array(1000)].map((_, k) => node('Neg', [k === 0 ? 'x' : `n${i}_${k}`], [`n${i}_${k + 1}`])),
              [],
              [value(`n${i}_1000`, FLOAT)],
            ),
          }),
        ),
        inputs: [
          { name: 'x', shape: [2] },
          { name: 'c', shape: [], type: BOOL },
        ],
        outputs: ['y200'],
      }),
      MINE,
      functionBytes('F', ['a', 'c'], ['b'], [referring(node('If', ['c'], ['b']), 'g')], ['g']),
    ]),
    /its functions become more than 131072 nodes/,
  ],
  'functions of many names': [
    Buffer.concat([
      onnxBytes({ nodes: Array.from({ length: 60 }, (_, i) => call('F', ['x'], [`y${i}`])), inputs: [{ name: 'x', shape: [2] }], outputs: ['y59'] }),
      MINE,
      functionBytes('F', ['a'], ['b'], [node('Sum', new Array<string>(50_000).fill('a'), ['b'])]),
    ]),
    /or 2097152 names/,
  ],

  // Time and memory
  'n-grams for many rows, again and again': [
    looping(20, 'k', FLOAT, [gram(20_000)], [ones('k', [1]), intTensor('x', [2000, 1], new Array<number>(2000).fill(1))], 9),
    null,
  ],
  'texts that a loop keeps': [
    {
      ...looping(300, 't', STRING, [], []),
      nodes: [
        node('Loop', ['turns', '', 't'], ['r', 'k'], {
          body: within(
            [node('Identity', ['going'], ['on']), node('StringNormalizer', ['t'], ['b'], { case_change_action: 'UPPER' }), node('Identity', ['b'], ['kept'])],
            [value('turn', INT64), value('going', BOOL), value('a', STRING)],
            [value('on', BOOL), value('b', STRING), value('kept', STRING)],
          ),
        }),
        node('Shape', ['k'], ['y']),
      ],
      initializers: [numberTensor('turns', 300), longText('t', 2 ** 20)],
      outputTypes: [INT64],
    },
    /node "\w+ of \w+" \(\w+\): \[\d+\] would be \d+ numbers|more work/,
  ],
  'an equation without end': [
    { ...single('Einsum', ['x'], [ones('x', [2])], {}), nodes: [node('Einsum', ['x'], ['y'], { equation: `${'a'.repeat(100_000)}->` })] },
    /^.{0,1500}$/s,
  ],
  'a word without end': [single('MaxPool', ['x'], [ones('x', [1, 1, 2])], { kernel_shape: [1], auto_pad: 'S'.repeat(100_000) }), /auto_pad is "S{100}…"/],
};

test.each(Object.entries(CASES))('%s', async (_name, [given, reason]) => {
  const bytes = Buffer.isBuffer(given) ? given : onnxBytes(given);
  const started = computedMs();
  const before = process.memoryUsage().rss;
  let said = 'computed';
  try {
    await scoped(async () => {
      const model = OnnxModel.load(bytesAsSource('model', bytes));
      try {
        await model.computeAsync({});
      } finally {
        model.dispose();
      }
    });
  } catch (error) {
    said = String(error);
  }
  expect(said).toMatch(reason ?? /^computed$/);
  expect(said.length).toBeLessThan(1500);
  expect(computedMs() - started).toBeLessThan(2000);
  expect(process.memoryUsage().rss - before).toBeLessThan(512 * 2 ** 20);
  device.gpu.pool.trim();
});

test('a node counts by the names that it reads, and a recurrent layer by its steps', async () => {
  const walk = vi.spyOn(Budget.prototype, 'walk');
  const spent = async (parts: OnnxParts): Promise<[number, number]> => {
    walk.mockClear();
    await scoped(async () => {
      const model = OnnxModel.load(bytesAsSource('model', onnxBytes(parts)));
      await model.computeAsync(Object.fromEntries(parts.inputs.map(({ name, shape }) => [name, zeros(shape)])));
      model.dispose();
    });
    return walk.mock.calls.reduce<[number, number]>(([read, nodes], [more = 0, turns = 1]) => [read + more, nodes + turns], [0, 0]);
  };
  const x = { name: 'x', shape: [0] };
  const [read] = await spent({ nodes: [node('Concat', new Array<string>(5000).fill('x'), ['y'], { axis: 0 })], inputs: [x], outputs: ['y'] });
  expect(read).toBeGreaterThan(64 * 5000);
  const sequence = { name: 'x', shape: [30, 1, 1] };
  const rnn = node('RNN', ['x', 'w', 'r'], ['', 'y'], { hidden_size: 1, direction: 'bidirectional' });
  const [, nodes] = await spent({ nodes: [rnn], initializers: [ones('w', [2, 1, 1]), ones('r', [2, 1, 1])], inputs: [sequence], outputs: ['y'] });
  expect(nodes).toBe(61);
  walk.mockRestore();
});

test('work on the host has a bound of its own, whatever the file holds', () => {
  const budget = new Budget(2 ** 30);
  budget.spend(2 ** 33);
  expect(() => budget.spend(1)).toThrow(/more than 8589934592 steps on the host/);
});

test('a text counts by its characters', () => {
  expect(sizeOfValue({ kind: 'text', shape: [2], data: ['four', ''] })).toBe(6);
});

test('a RangeError names its node', async () => {
  const model = OnnxModel.load(bytesAsSource('model', onnxBytes({ nodes: [node('Relu', ['x'], ['y'])], inputs: [{ name: 'x', shape: [1] }], outputs: ['y'] })));
  model.watch = () => {
    throw new RangeError('Invalid array length');
  };
  await expect(scoped(() => model.computeAsync({ x: zeros([1]) }))).rejects.toThrow(/node "Relu of y" \(Relu\): Invalid array length/);
  model.dispose();
});

test('a recurrent layer frees what only a step needs', async () => {
  const [steps, width] = [64, 64];
  const peak = await scoped(async () => {
    const model = OnnxModel.load(
      bytesAsSource(
        'model',
        onnxBytes({
          nodes: [node('LSTM', ['x', 'w', 'r'], ['', 'y'], { hidden_size: width })],
          initializers: [ones('w', [1, 4 * width, 1]), ones('r', [1, 4 * width, width])],
          inputs: [{ name: 'x', shape: [steps, 1, 1] }],
          outputs: ['y'],
        }),
      ),
    );
    const x = zeros([steps, 1, 1]);
    const added = Scope.add;
    const add = vi.spyOn(Scope, 'add');
    let [most, made] = [0, 0];
    const before = memory().tensors;
    add.mockImplementation((tensor: Tensor) => {
      made++;
      most = Math.max(most, memory().tensors - before);
      return added.call(Scope, tensor);
    });
    await model.computeAsync({ x });
    add.mockRestore();
    model.dispose();
    return { most, made };
  });
  expect(peak.made).toBeGreaterThan(10 * steps);
  expect(peak.most).toBeLessThan(3 * steps);
});

/** A tensor whose values lie in another file. */
const outside = (name: string, location: string, count: number): Buffer => {
  const entry = Buffer.concat([field(1, 'location'), field(2, location)]);
  return Buffer.concat([field(1, count), field(2, FLOAT), field(8, name), field(13, entry), field(14, 1)]);
};

test('the bytes of another file are counted by the file, however it is spelled', () => {
  const path = join(folder, 'shared.onnx');
  writeFileSync(join(folder, 'a.bin'), Buffer.alloc(4096));
  const spelled = Array.from({ length: 5 }, (_, i) => [`w${i}`, `${'./'.repeat(i)}a.bin`] as const);
  const parts = (count: number): OnnxParts => ({
    nodes: [
      node(
        'Sum',
        spelled.slice(0, count).map(([name]) => name),
        ['y'],
      ),
    ],
    initializers: spelled.slice(0, count).map(([name, location]) => outside(name, location, 1024)),
    inputs: [],
    outputs: ['y'],
  });
  writeFileSync(path, onnxBytes(parts(4)));
  OnnxModel.load(openFile(path)).dispose();
  writeFileSync(path, onnxBytes(parts(5)));
  expect(() => OnnxModel.load(openFile(path))).toThrow(/claim 20480 bytes of ".*a\.bin", which has 4096/);
});

test('sparse tensors are counted by the file, not by the graph', () => {
  const half = 1 << 21;
  const sparse = (name: string): Buffer => Buffer.concat([field(1, floatTensor(name, [0], [])), field(2, intTensor('', [0], [])), field(3, half + 1)]);
  const branch = (name: string): Attributes[string] => ({
    graph: [field(15, sparse(name)), field(1, node('Identity', [name], [`${name}y`])), field(12, Buffer.concat([field(1, `${name}y`)]))],
  });
  const bytes = onnxBytes({
    nodes: [node('If', ['c'], ['y'], { then_branch: branch('p'), else_branch: branch('q') })],
    inputs: [{ name: 'c', shape: [], type: BOOL }],
    outputs: ['y'],
  });
  expect(() => OnnxModel.load(bytesAsSource('model', bytes))).toThrow(/its sparse tensors have more than 4194304 elements, "q" among them/);
});

test('the gradients of a recurrent layer outlive its steps', async () => {
  await scoped(async () => {
    const weights = [0.3, -0.2, 0.5, 0.1];
    const steps = 5;
    const x = tensor(
      Float32Array.from({ length: steps }, (_, i) => Math.sin(i + 1)),
      [steps, 1, 1],
    );
    const lossOf = async (w: readonly number[], isTraining: boolean) => {
      const bytes = onnxBytes({
        nodes: [node('LSTM', ['x', 'w', 'r'], ['', 'y'], { hidden_size: 1 })],
        initializers: [floatTensor('w', [1, 4, 1], w), floatTensor('r', [1, 4, 1], [0.4, 0.3, -0.1, 0.2])],
        inputs: [{ name: 'x', shape: [steps, 1, 1] }],
        outputs: ['y'],
      });
      const model = OnnxModel.load(bytesAsSource('model', bytes), { trainable: (name) => isTraining && name === 'w' });
      const [y] = model.run({ x });
      const loss = ops.sum(y);
      const found = { loss: await loss.item(), gradient: new Float32Array(0) };
      if (isTraining) {
        backward(loss);
        found.gradient = (await (gradOf(model.parameters.get('w')) as Tensor).data()) as Float32Array<ArrayBuffer>;
      }
      model.dispose();
      return found;
    };
    const { gradient } = await lossOf(weights, true);
    for (const k of weights.keys()) {
      const moved = async (by: number) => (await lossOf(weights.with(k, weights[k] + by), false)).loss;
      expect(gradient[k]).toBeCloseTo(((await moved(0.01)) - (await moved(-0.01))) / 0.02, 3);
    }
  });
});
