/** Runs one ONNX operator for tests: here on the host, here on the GPU, and by onnxruntime. */

import { type Attributes, node, onnxBytes } from '../bench/peers/onnx_writer.ts';
import { noGrad } from '../src/autograd/tape.ts';
import { bytesAsSource } from '../src/data/bytes.ts';
import { toHalf } from '../src/data/half.ts';
import { fromBits } from '../src/model/onnx/elements.ts';
import { type Given, OnnxModel } from '../src/model/onnx/run.ts';
import type { HostTensor, HostText } from '../src/model/onnx/values.ts';
import { scope, Tensor, tensor } from '../src/tensor/tensor.ts';
import { type Ort, ort } from './onnx_oracle.ts';

export { ort } from './onnx_oracle.ts';

/** The number of each element type in a file. */
export const TYPES: Record<string, number> = {
  ...{ float: 1, uint8: 2, int8: 3, uint16: 4, int16: 5, int32: 6, int64: 7, string: 8, bool: 9, float16: 10, double: 11, uint32: 12, uint64: 13 },
};

export interface Operand {
  type: string;
  shape: number[];
  data: (number | string)[];
}

/** A value of some type; a list alone has one axis. */
export const of = (type: string, data: (number | string)[], shape: number[] = [data.length]): Operand => ({ type, shape, data });
export const floats = (data: number[], shape?: number[]): Operand => of('float', data, shape);

export interface Call {
  op: string;
  /** Null for an input that is left out. */
  inputs: (Operand | null)[];
  attributes?: Attributes;
  opset?: number;
  /** The types of its outputs; one like the first input if it is left out. */
  makes?: string[];
}

/** Operators that give truth values, and those that give places. */
const TRUTHS = ['Equal', 'Greater', 'Less', 'GreaterOrEqual', 'LessOrEqual', 'And', 'Or', 'Xor', 'Not', 'IsNaN', 'IsInf'];
const PLACES = ['ArgMax', 'ArgMin'];

const typesOf = ({ op, inputs, makes }: Call): string[] =>
  makes ?? [TRUTHS.includes(op) ? 'bool' : PLACES.includes(op) ? 'int64' : (inputs[op === 'Where' ? 1 : 0]?.type ?? 'float')];

function bytesOf(call: Call): Buffer {
  const { op, inputs, attributes, opset = 18 } = call;
  const types = typesOf(call);
  const names = types.map((_, i) => `y${i}`);
  return onnxBytes({
    nodes: [
      node(
        op,
        inputs.map((each, i) => (each ? `x${i}` : '')),
        names,
        attributes,
      ),
    ],
    inputs: inputs.flatMap((each, i) => (each ? [{ name: `x${i}`, shape: each.shape, type: TYPES[each.type] }] : [])),
    outputs: names,
    outputTypes: types.map((type) => TYPES[type]),
    opset,
  });
}

const isFloat = (type: string): boolean => ['float', 'float16', 'double'].includes(type);

function given({ type, shape, data }: Operand, on: 'host' | 'gpu'): Given {
  if (type === 'string') return { kind: 'text', shape, data: data.map(String) };
  const numbers = data.map(Number);
  if (!isFloat(type)) return { kind: 'int', type, shape, data: numbers };
  if (on === 'gpu') return tensor(Float32Array.from(numbers), shape);
  return { kind: 'float', type, shape, data: type === 'double' ? Float64Array.from(numbers) : Float32Array.from(numbers) };
}

/** The outputs. On the GPU nothing may be computed on the host but what is there. */
export async function outputsOf(call: Call, on: 'host' | 'gpu'): Promise<{ shape: number[]; data: (number | string)[]; onGpu: boolean }[]> {
  using _s = scope();
  const model = OnnxModel.load(bytesAsSource('model', bytesOf(call)));
  try {
    const inputs = Object.fromEntries(call.inputs.flatMap((each, i) => (each ? [[`x${i}`, given(each, on)]] : [])));
    const results = noGrad(() => model.compute(inputs)) as (Tensor | HostTensor | HostText)[];
    return await Promise.all(
      results.map(async (result) => ({
        shape: [...result.shape],
        data: Array.from(result instanceof Tensor ? await result.data() : (result.data as (number | string)[])),
        onGpu: result instanceof Tensor,
      })),
    );
  } finally {
    model.dispose();
  }
}

const ARRAYS: Record<string, (data: number[]) => unknown> = {
  float: (data) => Float32Array.from(data),
  double: (data) => Float64Array.from(data),
  float16: (data) => toHalf(Float32Array.from(data)),
  uint8: (data) => Uint8Array.from(data),
  int8: (data) => Int8Array.from(data),
  uint16: (data) => Uint16Array.from(data),
  int16: (data) => Int16Array.from(data),
  int32: (data) => Int32Array.from(data),
  uint32: (data) => Uint32Array.from(data),
  int64: (data) => BigInt64Array.from(data.map(BigInt)),
  uint64: (data) => BigUint64Array.from(data.map(BigInt)),
  bool: (data) => Uint8Array.from(data),
};

/** What onnxruntime computes. */
export async function expectedOf(call: Call): Promise<{ shape: number[]; data: (number | string)[] }[]> {
  const { InferenceSession, Tensor: OrtTensor } = ort as Ort;
  const session = await InferenceSession.create(bytesOf(call), { logSeverityLevel: 4 });
  const feeds = Object.fromEntries(
    call.inputs.flatMap((each, i) => {
      if (!each) return [];
      const { type, shape, data } = each;
      return [[`x${i}`, new OrtTensor(type === 'float' ? 'float32' : type === 'double' ? 'float64' : type, ARRAYS[type]?.(data.map(Number)) ?? data, shape)]];
    }),
  );
  const results = await session.run(feeds);
  return Object.keys(results)
    .sort()
    .map((name) => {
      const { data, dims } = results[name];
      const values = data instanceof Uint16Array && typesOf(call)[Number(name.slice(1))] === 'float16' ? fromBits('float16', data) : data;
      return {
        shape: [...dims],
        data: Array.from(values as ArrayLike<number | bigint | string>, (value) => (typeof value === 'bigint' ? Number(value) : value)),
      };
    });
}
