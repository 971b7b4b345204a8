/** One node of ONNX, run here on the GPU and on the host, and by onnxruntime: all must say the same. */
import { expect } from 'vitest';
import { type OnnxParts, onnxBytes } from '../bench/peers/onnx_writer.ts';
import { compare } from '../src/autograd/check.ts';
import { bytesAsSource } from '../src/data/bytes.ts';
import { type Given, OnnxModel } from '../src/model/onnx/run.ts';
import { isHost } from '../src/model/onnx/values.ts';
import { type Attribute, type Chunks, field, nodeMessage } from '../src/model/onnx/writer.ts';
import { Random } from '../src/random.ts';
import { sizeOf } from '../src/tensor/shape.ts';
import { scoped, Tensor, tensor } from '../src/tensor/tensor.ts';
import { type Ort, ort } from './onnx_oracle.ts';

export const ELEMENTS = { float: 1, uint8: 2, int8: 3, int32: 6, int64: 7, string: 8, bool: 9, float16: 10, double: 11 } as const;
export type Element = keyof typeof ELEMENTS;

/** A value that a node reads. */
export interface Read {
  type: Element;
  shape: number[];
  data: readonly (number | string)[];
}

const read =
  (type: Element) =>
  (shape: number[], data: readonly (number | string)[]): Read => ({ type, shape, data });
export const [i64, i32, u8, bool, f64, texts] = (['int64', 'int32', 'uint8', 'bool', 'double', 'string'] as const).map(read);

/** A list of whole numbers, as shapes and axes are. */
export const list = (...data: number[]): Read => i64([data.length], data);
export const f32 = (shape: number[], data: readonly number[]): Read => ({ type: 'float', shape, data: Array.from(Float32Array.from(data)) });

/** Repeatable floats. */
export function floats(...shape: number[]): Read {
  const random = new Random(7, `floats ${shape}`);
  return f32(
    shape,
    Array.from({ length: sizeOf(shape) }, () => random.normal()),
  );
}

/** 0, 1, 2, … */
export const counted = (...shape: number[]): Read =>
  f32(
    shape,
    Array.from({ length: sizeOf(shape) }, (_, i) => i),
  );

export interface NodeCase {
  op: string;
  /** Null for one that is left out. */
  inputs: (Read | null)[];
  attributes?: Record<string, Attribute | { strings: readonly string[] }>;
  outputs?: number;
  /** The types of the outputs: that of the first input where it does not say. */
  makes?: Element[];
  opset?: number;
  /** The GPU does not compute it: only the host does. */
  hostOnly?: boolean;
  rtol?: number;
  atol?: number;
}

export const one = (op: string, inputs: (Read | null)[], attributes: NodeCase['attributes'] = {}, more: Partial<NodeCase> = {}): NodeCase => ({
  op,
  inputs,
  attributes,
  ...more,
});

function partsOf({ op, inputs, attributes = {}, outputs = 1, makes = [], opset = 18 }: NodeCase): OnnxParts {
  const lists: Chunks = Object.entries(attributes).flatMap(([name, value]) =>
    typeof value === 'object' && 'strings' in value ? field(5, [...field(1, name), ...value.strings.flatMap((each) => field(9, each)), ...field(20, 8)]) : [],
  );
  const others = Object.entries(attributes).filter(([, value]) => !(typeof value === 'object' && 'strings' in value)) as [string, Attribute][];
  const names = inputs.map((value, i) => (value ? `x${i}` : ''));
  const made = Array.from({ length: outputs }, (_, i) => `y${i}`);
  return {
    nodes: [Buffer.concat([...nodeMessage(op, names, made, Object.fromEntries(others)), ...lists])],
    inputs: inputs.flatMap((value, i) => (value ? [{ name: `x${i}`, shape: value.shape, type: ELEMENTS[value.type] }] : [])),
    outputs: made,
    outputTypes: made.map((_, i) => ELEMENTS[makes[i] ?? inputs[0]?.type ?? 'float']),
    opset,
  };
}

function given({ type, shape, data }: Read, onGpu: boolean): Given {
  if (type === 'string') return { kind: 'text', shape, data: data.map(String) };
  const numbers = data.map(Number);
  if (type === 'double') return { kind: 'float', type, shape, data: Float64Array.from(numbers) };
  if (type === 'float' && onGpu) return tensor(Float32Array.from(numbers), shape);
  if (type === 'float') return { kind: 'float', type, shape, data: Float32Array.from(numbers) };
  return { kind: 'int', type, shape, data: numbers };
}

const ARRAYS = { float: Float32Array, double: Float64Array, uint8: Uint8Array, int8: Int8Array, int32: Int32Array, bool: Uint8Array };
const ORT_NAMES: Partial<Record<Element, string>> = { float: 'float32', double: 'float64' };

function fed({ type, shape, data }: Read): object {
  const { Tensor: Made } = ort as Ort;
  if (type === 'string') return new Made('string', [...data], shape);
  if (type === 'int64') return new Made('int64', BigInt64Array.from(data as number[], BigInt), shape);
  return new Made(ORT_NAMES[type] ?? type, ARRAYS[type as keyof typeof ARRAYS].from(data as number[]), shape);
}

export interface Result {
  shape: number[];
  data: (number | string)[];
}

/** Runs a graph here; also says which outputs are on the GPU. */
export async function ran(said: string, parts: OnnxParts, inputs: Readonly<Record<string, Given>>): Promise<(Result & { onGpu: boolean })[]> {
  return scoped(async () => {
    const model = OnnxModel.load(bytesAsSource(said, onnxBytes(parts)));
    try {
      const results = await model.computeAsync(inputs);
      return await Promise.all(
        results.map(async (value) => {
          if (value instanceof Tensor) return { shape: [...value.shape], data: Array.from(await value.data()), onGpu: true };
          if (value.kind !== 'text' && !isHost(value)) throw new Error(`an output is a ${value.kind}`);
          return { shape: value.shape, data: Array.from<number | string>(value.data), onGpu: false };
        }),
      );
    } finally {
      model.dispose();
    }
  });
}

function same(said: string, came: Result, expected: Result, rtol: number, atol: number): void {
  expect(came.shape, said).toEqual(expected.shape);
  if (expected.data.some((each) => typeof each === 'string')) expect(came.data, said).toEqual(expected.data);
  else expect(compare(came.data as number[], expected.data as number[], rtol, atol), said).toMatchObject({ ok: true, first: null });
}

/** The node here, with its floats on the GPU and then all on the host. */
async function both(said: string, each: NodeCase): Promise<{ parts: OnnxParts; results: Result[][] }> {
  const parts = partsOf(each);
  const results: Result[][] = [];
  const hasFloats = each.inputs.some((value) => value?.type === 'float');
  for (const onGpu of hasFloats ? [true, false] : [false]) {
    const inputs = Object.fromEntries(each.inputs.flatMap((value, i) => (value ? [[`x${i}`, given(value, onGpu)] as const] : [])));
    const made = await ran(said, parts, inputs);
    if (onGpu && !each.hostOnly) expect(made[0].onGpu, `${said}: the GPU computes it`).toBe(true);
    results.push(made);
  }
  return { parts, results };
}

/** Holds a node against onnxruntime. */
export async function agreesWithOrt(said: string, each: NodeCase): Promise<void> {
  const { parts, results } = await both(said, each);
  const session = await (ort as NonNullable<typeof ort>).InferenceSession.create(onnxBytes(parts), { logSeverityLevel: 4, graphOptimizationLevel: 'disabled' });
  const feeds = Object.fromEntries(each.inputs.flatMap((value, i) => (value ? [[`x${i}`, fed(value)] as const] : [])));
  const expected = await session.run(feeds);
  for (const made of results)
    for (const [i, came] of made.entries()) {
      const { data, dims } = expected[`y${i}`];
      const plain = Array.from(data as ArrayLike<number | bigint | string>, (value) => (typeof value === 'string' ? value : Number(value)));
      same(`${said}, output ${i}`, came, { shape: [...dims], data: plain }, each.rtol ?? 0, each.atol ?? 0);
    }
}

/** Holds a node against results that are known. */
export async function gives(said: string, each: NodeCase, expected: readonly Result[]): Promise<void> {
  for (const made of (await both(said, each)).results)
    for (const [i, came] of made.entries()) same(`${said}, output ${i}`, came, expected[i], each.rtol ?? 0, each.atol ?? 0);
}

/** The message with which a node is refused. */
export async function refusalOf(each: NodeCase): Promise<string> {
  return both('model', each).then(
    () => 'it was not refused',
    (error) => (error as Error).message,
  );
}
