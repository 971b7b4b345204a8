/** Graphs of tests, run here and by onnxruntime: both must say the same. */
import { expect } from 'vitest';
import { type OnnxParts, onnxBytes } from '../bench/peers/onnx_writer.ts';
import { oracle } from '../scripts/third_party.js';
import { compare } from '../src/autograd/check.ts';
import { bytesAsSource } from '../src/data/bytes.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import type { HostTensor } from '../src/model/onnx/values.ts';
import { scoped, Tensor, tensor } from '../src/tensor/tensor.ts';

export interface Ort {
  InferenceSession: {
    create(
      bytes: Uint8Array,
      options: object,
    ): Promise<{ run(feeds: object): Promise<Record<string, { data: ArrayLike<number | bigint | string>; dims: readonly number[] }>> }>;
  };
  Tensor: new (type: string, data: unknown, shape: readonly number[]) => object;
}

export const ort = oracle('onnxruntime-node') as Ort | null;
if (!ort) console.warn('SKIPPED: graphs against onnxruntime; install it with `npm run oracles`');

/** Numbers of an input: floats, or whole numbers of a type. */
export interface Numbers {
  shape: number[];
  data: readonly number[] | Float32Array;
  type?: 'int64' | 'int32' | 'bool';
}

function fed({ shape, data, type }: Numbers): object {
  const { Tensor: Fed } = ort as Ort;
  if (type === 'int64') return new Fed('int64', BigInt64Array.from(data as number[], BigInt), shape);
  if (type === 'int32') return new Fed('int32', Int32Array.from(data), shape);
  if (type === 'bool') return new Fed('bool', Uint8Array.from(data), shape);
  return new Fed('float32', Float32Array.from(data), shape);
}

/** Runs a graph in both, and holds every output against onnxruntime's: |difference| ≤ atol + rtol |expected|. */
export async function agrees(said: string, parts: OnnxParts, given: Readonly<Record<string, Numbers>>, rtol = 1e-4, atol = 1e-5): Promise<void> {
  const bytes = onnxBytes(parts);
  const session = await (ort as Ort).InferenceSession.create(bytes, { logSeverityLevel: 3, graphOptimizationLevel: 'disabled' });
  const expected = await session.run(Object.fromEntries(Object.entries(given).map(([name, numbers]) => [name, fed(numbers)])));
  await scoped(async () => {
    const model = OnnxModel.load(bytesAsSource(said, bytes));
    const inputs = Object.fromEntries(
      Object.entries(given).map(([name, { shape, data, type }]): [string, Tensor | HostTensor] => [
        name,
        type ? { kind: 'int', type, shape, data: Array.from(data) } : tensor(Float32Array.from(data), shape),
      ]),
    );
    const results = (await model.computeAsync(inputs)) as (Tensor | HostTensor)[];
    for (const [i, name] of parts.outputs.entries()) {
      const { data, dims } = expected[name];
      expect([...results[i].shape], `${said}, output ${name}`).toEqual([...dims]);
      const { data: came } = results[i] instanceof Tensor ? { data: await (results[i] as Tensor).data() } : (results[i] as HostTensor);
      expect(compare(came, Array.from(data, Number), rtol, atol), `${said}, output ${name}`).toMatchObject({ ok: true, first: null });
    }
    model.dispose();
  });
}
