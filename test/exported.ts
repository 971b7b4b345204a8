/** What tests of exported models need: onnxruntime, a Python with ONNX's own checker, and comparisons. */
import { execFileSync } from 'node:child_process';
import { expect } from 'vitest';
import { oracle } from '../scripts/third_party.js';
import { END, PAD } from '../src/data/words.ts';
import type { Chunks } from '../src/model/onnx/writer.ts';

type Values = Float32Array | BigInt64Array;

export interface OrtTensor {
  data: Values;
  dims: readonly number[];
}

export interface OrtSession {
  run(feeds: object): Promise<Record<string, OrtTensor>>;
}

interface Ort {
  InferenceSession: { create(bytes: Uint8Array, options: object): Promise<OrtSession> };
  Tensor: new (type: string, data: Values, shape: readonly number[]) => OrtTensor;
}

export const ort = oracle('onnxruntime-node') as Ort | null;
if (!ort) console.warn('SKIPPED: exported models in onnxruntime; install it with `npm run oracles`');

/** A session of a model. Only for tests that are skipped without onnxruntime. */
export async function sessionOf(bytes: Chunks): Promise<OrtSession> {
  return (ort as Ort).InferenceSession.create(Buffer.concat(bytes), { logSeverityLevel: 3 });
}

/** An input for onnxruntime: floats, or whole numbers. */
export const feed = (data: Values, shape: readonly number[]): OrtTensor =>
  new (ort as Ort).Tensor(data instanceof Float32Array ? 'float32' : 'int64', data, shape);

export const wholes = (values: readonly number[], shape: readonly number[] = [values.length]): OrtTensor => feed(BigInt64Array.from(values, BigInt), shape);

/** No number is further than 1e-4 from what it must be. */
export function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, what: string): void {
  expect(actual.length, what).toBe(expected.length);
  let most = 0;
  for (let i = 0; i < expected.length; i++) most = Math.max(most, Math.abs(actual[i] - expected[i]));
  expect(most, what).toBeLessThanOrEqual(1e-4);
}

/** The captions in the words of decoder_greedy: those before endseq. After it there is nothing but padding. */
export function captionsOf({ data, dims: [rows, steps] }: OrtTensor): number[][] {
  return Array.from({ length: rows }, (_, n) => {
    const ids = [...(data as BigInt64Array).subarray(n * steps, (n + 1) * steps)].map(Number);
    const end = ids.indexOf(END);
    if (end < 0) return ids;
    expect(ids.slice(end + 1).every((id) => id === PAD)).toBe(true);
    return ids.slice(0, end);
  });
}

/** For Python: checks the models in the files that are named, with the shapes of all values, and prints their names. */
export const CHECKER = `
import sys, onnx
for path in sys.argv[1:]:
    onnx.checker.check_model(path, full_check=True)
    print(path)
`;

/** A Python that has ONNX, or null; says aloud that its checker is skipped. */
export function pythonWithOnnx(): string | null {
  const python = process.env.GLIMPSE_PYTHON ?? 'python3';
  try {
    execFileSync(python, ['-c', 'import onnx'], { stdio: 'ignore' });
    return python;
  } catch {
    console.warn(`SKIPPED: onnx.checker; ${python} has no module onnx (GLIMPSE_PYTHON names another Python)`);
    return null;
  }
}
