/** Casts from one element type to another, texts among them. */
import * as ops from '../../../autograd/ops/index.ts';
import { MAX_RANK } from '../../../tensor/shape.ts';
import { type Tensor, tensor } from '../../../tensor/tensor.ts';
import { ELEMENT_TYPES, type ElementType } from '../elements.ts';
import { attribute, type Context, fail, type Made, NotOnDevice, numberOf, type Operators } from '../operator.ts';
import type { OnnxNode } from '../proto.ts';
import { type Device, type HostTensor, type HostText, isDevice, isHost, shared, typeName, typeOf } from '../values.ts';
import { castTo } from './moves.ts';

/** The type of texts, by its number. */
const STRING = 8;

/** The type that a Cast asks for: null for one that is not known here. */
function castTarget(node: OnnxNode): ElementType | 'string' | null {
  const to = numberOf(node, 'to', 0);
  return to === STRING ? 'string' : (ELEMENT_TYPES[to] ?? null);
}

const known = (node: OnnxNode): ElementType | 'string' => castTarget(node) ?? fail(`a cast to element type ${node.attributes.get('to')} is not supported`);

/** The fewest digits that tell a float from its neighbors. */
function digitsOf(value: number, isDouble: boolean): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? 'INF' : '-INF';
  if (isDouble) return Object.is(value, -0) ? '-0' : String(value);
  for (let digits = 1; digits < 9; digits++) {
    const text = value.toPrecision(digits);
    if (Math.fround(Number(text)) === value) return Object.is(value, -0) ? '-0' : String(Number(text));
  }
  return String(Number(value.toPrecision(9)));
}

/** Numbers as texts: whole numbers in decimal, truth values as 0 and 1. */
const textsOf = (x: HostTensor): HostText => ({
  ...{ kind: 'text', shape: x.shape },
  data: Array.from(x.data, (value) => (x.kind === 'int' ? String(value) : digitsOf(value, typeOf(x).name === 'double'))),
});

const ODD_NUMBERS: Record<string, number> = {
  ...{ nan: Number.NaN, inf: Number.POSITIVE_INFINITY, '+inf': Number.POSITIVE_INFINITY, '-inf': Number.NEGATIVE_INFINITY },
  ...{ infinity: Number.POSITIVE_INFINITY, '+infinity': Number.POSITIVE_INFINITY, '-infinity': Number.NEGATIVE_INFINITY },
};
const DECIMAL = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;

/** Texts as numbers. Throws a GlimpseError for a text that is no number. */
function numbersIn(x: HostText, to: ElementType): HostTensor {
  const data = Float64Array.from(x.data, (text) => {
    const word = text.trim().toLowerCase();
    if (Object.hasOwn(ODD_NUMBERS, word)) return ODD_NUMBERS[word];
    const digits = text.trim();
    return digits.length <= 400 && DECIMAL.test(digits) ? Number(digits) : fail(`"${text.slice(0, 40)}" is no number`);
  });
  return castTo({ kind: 'float', type: 'double', shape: x.shape, data }, to);
}

const castAny = (c: Context, to: ElementType | 'string'): Made | null => {
  const x = c.value(0);
  if (isDevice(x)) return null;
  if (isHost(x)) return to === 'string' ? textsOf(x) : null;
  if (x.kind !== 'text') return fail(`${c.what(0)} is ${typeName(x)}, a tensor is expected`);
  return to === 'string' ? x : numbersIn(x, to);
};

const onHost = (x: HostTensor, to: ElementType | 'string'): Made => (to === 'string' ? textsOf(x) : castTo(x, to));

/** 1 where x is not 0, NaN too. The engine's comparison is NaN beside a NaN. */
const isTrue = (x: Tensor): Tensor => ops.where(ops.isNan(x), tensor([1], []), ops.notEqual(x, tensor([0], [])));

/**
 * Floats on the GPU are float32: a cast to a type that holds all of them changes the type's name only. So does one from a narrower
 * type, or of truth values. What is not 0, NaN too, is true.
 */
function onDevice(c: Context, to: ElementType | 'string'): Device {
  const given = c.value(0);
  const x = isDevice(given) ? given : c.words(0);
  if (to !== 'string' && to.name === 'bool' && typeOf(x).kind === 'float') return { ...x, tensor: isTrue(x.tensor), type: 'bool' };
  return renamed(shared(x) as Device, to); // x may be a weight of the model
}

function renamed(x: Device, to: ElementType | 'string'): Device {
  const { name } = typeOf(x);
  const fits = to !== 'string' && x.tensor.dtype === 'f32' && x.tensor.rank <= MAX_RANK && (to.name === 'float' || to.name === 'double' || to.name === name);
  const isBit = to !== 'string' && name === 'bool' && to.kind === 'float';
  if (!fits && !isBit) throw new NotOnDevice(`a cast of ${name} to ${to === 'string' ? to : to.name} on the GPU`);
  return { ...x, type: (to as ElementType).name };
}

/** The type of the second input of CastLike. */
function targetOf(c: Context): ElementType | 'string' {
  const other = c.value(1);
  if (isDevice(other) || isHost(other)) return typeOf(other);
  return other.kind === 'text' ? 'string' : fail(`${c.what(1)} is ${typeName(other)}, a tensor is expected`);
}

/** Whether a number that a narrower float cannot hold becomes its largest; only floats of 8 bits, which are not supported, ask for it. */
const SATURATE = { saturate: attribute('flag', { since: 19 }), round_mode: attribute('string', { since: 24 }) };

export const CASTS: Operators = {
  Cast: {
    inputs: [1, 1],
    attributes: { to: attribute('int', { required: true }), ...SATURATE },
    layout: 'first',
    any: (c) => castAny(c, known(c.node)),
    host: ({ node, inputs }) => onHost(inputs[0] as HostTensor, known(node)),
    device: (c) => onDevice(c, known(c.node)),
  },
  CastLike: {
    inputs: [2, 2],
    attributes: SATURATE,
    layout: 'first',
    any: (c) => castAny(c, targetOf(c)),
    host: ({ inputs }) => onHost(inputs[0] as HostTensor, typeOf(inputs[1] as HostTensor)),
    device: (c) => onDevice(c, targetOf(c)),
  },
};
