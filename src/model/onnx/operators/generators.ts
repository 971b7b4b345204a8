/**
 * Operators that make tensors of nothing but a shape or a few numbers: constants, ranges, random numbers. Random numbers are the
 * project's own (random.ts): they follow from the seed and from how often the node was run, on any machine. A node without a seed has seed 0
 * and a stream of its own, by the name of its output.
 */
import * as ops from '../../../autograd/ops/index.ts';
import { Random } from '../../../random.ts';
import { MAX_RANK, type Shape, sizeOf } from '../../../tensor/shape.ts';
import { tensor } from '../../../tensor/tensor.ts';
import { ELEMENT_TYPES, type ElementType } from '../elements.ts';
import { bounded, fitted, oneType, rounded } from '../host.ts';
import { attribute, type Check, type Context, type Count, fail, float, type HostCall, int, type Operators, plain, type Surroundings } from '../operator.ts';
import type { OnnxNode, OnnxTensor } from '../proto.ts';
import { type HostTensor, isDevice, isHost, SHORT, typeOf, type Value } from '../values.ts';

/** Numbers of a type, as a tensor on the host. */
function numbersOf(type: ElementType, shape: number[], data: ArrayLike<number>): HostTensor {
  if (type.kind === 'float') return { kind: 'float', type: type.name, shape, data: rounded(type, data) };
  return { kind: 'int', type: type.name, shape, data: type.name === 'bool' ? Array.from(data, (value) => Number(value !== 0)) : fitted(type, data) };
}

/** Long lists of floats go to the GPU once, not once for every node that reads them. */
function placed(x: HostTensor): Value {
  if (x.kind === 'int' || x.data.length <= SHORT || x.data instanceof Float64Array || x.shape.length > MAX_RANK) return x;
  return plain(tensor(x.data as Float32Array, x.shape), x.type);
}

/** The shape that an input holds. */
function shapeIn(given: HostTensor | null | undefined): number[] {
  if (given?.shape.length !== 1 || Array.from(given.data).some((extent) => !(extent >= 0)))
    fail(`a shape of [${given ? Array.from(given.data).slice(0, 10) : ''}], one axis of extents is expected`);
  return Array.from((given as HostTensor).data);
}

/** The file is closed when a model runs: the value is read when it is checked. */
function checkConstantOfShape(node: OnnxNode, c: Check): void {
  const value = node.attributes.get('value') as OnnxTensor | undefined;
  if (!value) return;
  if (value.kind === 'text') c.unsupported('a value that is text');
  if (sizeOf(value.shape) !== 1) c.fail(`its value is [${value.shape}], one number is expected`);
  const host = value.load();
  node.attributes.set('value', { ...value, load: () => host });
}

const filling = (node: OnnxNode): HostTensor =>
  (node.attributes.get('value') as OnnxTensor | undefined)?.load() ?? { kind: 'float', shape: [1], data: new Float32Array(1) };

function constantOfShape({ node, inputs }: HostCall): HostTensor {
  const value = filling(node);
  const shape = bounded(shapeIn(inputs[0]));
  const [each] = numbersOf(typeOf(value), [1], [value.data[0]]).data;
  const data =
    value.kind === 'int'
      ? new Array<number>(sizeOf(shape))
      : value.data instanceof Float64Array
        ? new Float64Array(sizeOf(shape))
        : new Float32Array(sizeOf(shape));
  return { ...value, shape, data: data.fill(each) };
}

/** Long lists of floats are made on the GPU. */
function constantOnDevice(c: Context): Value | null {
  const value = filling(c.node);
  const shape = shapeIn(c.host(0));
  const { kind, name } = typeOf(value);
  if (kind !== 'float' || name === 'double' || shape.length > MAX_RANK || sizeOf(shape) <= SHORT) return null;
  c.model.budget.expect(shape);
  return plain(ops.broadcastTo(tensor([value.data[0]], []), shape), value.type);
}

function range({ inputs }: HostCall): HostTensor {
  const given = inputs as HostTensor[];
  const type = oneType(given);
  if (given.some(({ data }) => data.length !== 1) || type.name === 'bool') fail('start, limit and delta are one number each');
  const [start, limit, delta] = given.map(({ data }) => data[0]);
  const count = Math.max(0, Math.ceil((limit - start) / delta));
  if (delta === 0 || Number.isNaN(count)) fail(`a range from ${start} to ${limit} in steps of ${delta}`);
  const shape = bounded([count]);
  return numbersOf(
    type,
    shape,
    Float64Array.from({ length: count }, (_, i) => start + i * delta),
  );
}

/** The element type that attribute dtype names, or another. */
function typeNamed(node: OnnxNode, otherwise: ElementType): ElementType {
  const number = node.attributes.get('dtype') as number | undefined;
  return number === undefined ? otherwise : (ELEMENT_TYPES[number] ?? fail(`element type ${number} is not supported`));
}

const FLOAT = ELEMENT_TYPES[1];
const INT32 = ELEMENT_TYPES[6];

/** The type of input 0. */
function typeIn(c: Context): ElementType {
  const value = c.value(0);
  return isDevice(value) || isHost(value) ? typeOf(value) : fail(`${c.what(0)} holds no numbers`);
}

function eyeLike(c: Context): Value {
  const shape = [...c.shape(0)];
  if (shape.length !== 2) fail(`[${shape}]; a matrix is expected`);
  const k = c.number('k', 0);
  bounded(shape);
  const data = new Float64Array(sizeOf(shape));
  for (let row = Math.max(0, -k); row < Math.min(shape[0], shape[1] - k); row++) data[row * shape[1] + row + k] = 1;
  return placed(numbersOf(typeNamed(c.node, typeIn(c)), shape, data));
}

/** How often each node has drawn in a run. */
const draws = new WeakMap<Surroundings, Map<OnnxNode, number>>();

function randomOf(c: Context): Random {
  const counts = draws.get(c.model) ?? new Map<OnnxNode, number>();
  draws.set(c.model, counts);
  const step = counts.get(c.node) ?? 0;
  counts.set(c.node, step + 1);
  const seed = c.node.attributes.get('seed') as number | undefined;
  const word = seed === undefined ? 0 : new Uint32Array(Float32Array.of(seed).buffer)[0];
  return new Random(word, `onnx ${c.node.op} ${seed === undefined ? c.node.outputs[0] : ''}`, step);
}

function drawn(c: Context, type: ElementType, shape: Shape): Value {
  if (type.kind !== 'float') fail(`random numbers of ${type.name}; floats are expected`);
  const to = bounded([...shape]);
  const random = randomOf(c);
  const isNormal = c.node.op.startsWith('RandomNormal');
  const [mean, scale, low, high] = [c.number('mean', 0), c.number('scale', 1), c.number('low', 0), c.number('high', 1)];
  const next = isNormal ? () => mean + scale * random.normal() : () => random.uniform(low, high);
  return placed(
    numbersOf(
      type,
      to,
      Float64Array.from({ length: sizeOf(to) }, () => next()),
    ),
  );
}

const likeInput = (c: Context): ElementType => typeNamed(c.node, typeIn(c).kind === 'float' ? typeIn(c) : FLOAT);

/** 1 with the probability that an element says. */
function bernoulli(c: Context): Value {
  const x = c.numbers(0) as HostTensor;
  if (x.kind !== 'float') fail(`probabilities of ${typeOf(x).name}; floats are expected`);
  const random = randomOf(c);
  bounded(x.shape);
  return placed(
    numbersOf(
      typeNamed(c.node, typeOf(x)),
      x.shape,
      Float64Array.from(x.data, (p) => Number(random.uniform() < p)),
    ),
  );
}

/** Classes drawn by their log-probabilities, [batch, classes] → [batch, samples]. */
function multinomial(c: Context): Value {
  const x = c.numbers(0) as HostTensor;
  const type = typeNamed(c.node, INT32);
  if (x.kind !== 'float' || x.shape.length !== 2) fail(`log-probabilities ${typeOf(x).name} [${x.shape}]; floats of two axes are expected`);
  const [batch, classes] = x.shape;
  const samples = c.number('sample_size', 1);
  if (!(samples >= 1)) fail(`sample_size is ${samples}, at least 1 is expected`);
  const shape = bounded([batch, samples]);
  if (classes === 0 || type.kind !== 'int') fail(classes === 0 ? 'no class to draw' : `classes as ${type.name}`);
  const random = randomOf(c);
  const data: number[] = [];
  for (let row = 0; row < batch; row++) {
    const logits = Array.from(x.data.slice(row * classes, (row + 1) * classes));
    const most = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
    let total = 0;
    const sums = logits.map((value) => {
      total += Math.exp(value - most);
      return total;
    });
    if (!(total > 0 && Number.isFinite(total))) fail(`row ${row} holds no probabilities`);
    for (let i = 0; i < samples; i++) data.push(firstAbove(sums, random.uniform() * total));
  }
  return numbersOf(type, shape, data);
}

/** The first place whose sum is above a value. */
function firstAbove(sums: readonly number[], value: number): number {
  let [low, high] = [0, sums.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sums[middle] > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

const ONE: Count = [1, 1];
const NONE: Count = [0, 0];
const COMMON = { dtype: int, seed: float };
const NORMAL = { ...COMMON, mean: float, scale: float };
const UNIFORM = { ...COMMON, low: float, high: float };
const shape = attribute('ints', { required: true });

export const GENERATORS: Operators = {
  ConstantOfShape: {
    inputs: ONE,
    attributes: { value: attribute('tensor') },
    where: [0],
    check: checkConstantOfShape,
    any: constantOnDevice,
    host: constantOfShape,
  },
  Range: { inputs: [3, 3], attributes: {}, read: [0, 1, 2], host: range },
  EyeLike: { inputs: ONE, attributes: { dtype: int, k: int }, any: eyeLike },
  RandomNormal: { inputs: NONE, attributes: { ...NORMAL, shape }, any: (c) => drawn(c, typeNamed(c.node, FLOAT), c.list('shape') ?? []) },
  RandomNormalLike: { inputs: ONE, attributes: NORMAL, any: (c) => drawn(c, likeInput(c), c.shape(0)) },
  RandomUniform: { inputs: NONE, attributes: { ...UNIFORM, shape }, any: (c) => drawn(c, typeNamed(c.node, FLOAT), c.list('shape') ?? []) },
  RandomUniformLike: { inputs: ONE, attributes: UNIFORM, any: (c) => drawn(c, likeInput(c), c.shape(0)) },
  Bernoulli: { inputs: ONE, attributes: COMMON, read: [0], any: bernoulli },
  Multinomial: { inputs: ONE, attributes: { ...COMMON, sample_size: int }, read: [0], any: multinomial },
};
