/** The pool of buffers: size classes, reuse, limits of the adapter, the byte budget, use after dispose. */
import { expect, test } from 'vitest';
import * as ops from '../src/autograd/ops/index.ts';
import { GpuError } from '../src/errors.ts';
import { sizeClass } from '../src/gpu/pool.ts';
import { empty, full, memory, scope, tensor } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

const device = useGpu();

test('size classes waste at most a quarter', () => {
  for (const bytes of [1, 256, 257, 1000, 1025, 5000, 123_457, 9_999_999]) {
    const size = sizeClass(bytes);
    expect(size).toBeGreaterThanOrEqual(bytes);
    expect(size % 256).toBe(0);
    if (bytes > 1024) expect(size).toBeLessThanOrEqual(bytes * 1.25 + 256);
  }
});

test('buffers are reused: allocations stop growing', async () => {
  const work = async () => {
    using _s = scope();
    await ops.relu(ops.add(full([1000], 1), full([1000], 2))).data();
  };
  await work();
  const { bytesAllocated, bytesInUse } = memory();
  for (let i = 0; i < 20; i++) await work();
  expect(memory().bytesAllocated).toBe(bytesAllocated);
  expect(memory().bytesInUse).toBe(bytesInUse);
});

test('a buffer of captures is anybody’s once they are gone', () => {
  const { gpu } = device;
  const { result, replay } = gpu.capture(() => empty([3000]));
  const { buffer } = result.slice;
  expect(buffer.captured).toBe(true);
  result.dispose();
  replay.dispose();
  using again = empty([3000]);
  expect(again.slice.buffer).toBe(buffer);
  expect(buffer.captured).toBe(false); // so weights in it are steady
});

test('captures share free buffers that are larger than they need, but not much larger', () => {
  const { gpu } = device;
  const took = (...sizes: number[]) =>
    gpu.capture(() => {
      using _inner = scope();
      return sizes.map((size) => empty([size]).slice.buffer);
    });
  const first = took(3000, 100_000);
  const second = took(2500, 2500, 60_000);
  const [small, large] = first.result;
  expect(second.result[0]).toBe(small);
  expect(second.result[1].capacity).toBe(sizeClass(4 * 2500)); // the only free one is 40 times as large
  expect(second.result[2]).toBe(large);
  for (const { replay } of [first, second]) replay.dispose();
});

test('beyond what the adapter binds, the error names the operation, the shape and the limit', () => {
  expect(() => empty([1 << 20, 1 << 13], 'f32', 'huge')).toThrow(/huge \[1048576,8192\]: needs one buffer of .* MiB, this adapter binds at most/);
});

test('beyond the byte budget, the error says what is in use and what to do', async () => {
  const { pool } = device.gpu;
  const kept = pool.budgetBytes;
  pool.trim(); // what earlier tests left free would make room
  Object.assign(pool, { budgetBytes: memory().bytesAllocated + (1 << 20) });
  try {
    expect(() => empty([1 << 20])).toThrow(GpuError);
    expect(() => empty([1 << 20])).toThrow(/of the budget of .*smaller batch, or raise GLIMPSE_MEMORY_MB/s);
  } finally {
    Object.assign(pool, { budgetBytes: kept });
  }
});

test('a tensor used after dispose says so', () => {
  const x = tensor([1]);
  x.dispose();
  expect(() => ops.relu(x)).toThrow(/used after dispose/);
});
