/** The layer below tensors: pool, recorder, errors, profiler. */
import { expect, test } from 'vitest';
import * as ops from '../src/autograd/ops/index.ts';
import { GpuError } from '../src/errors.ts';
import { sizeClass } from '../src/gpu/pool.ts';
import { formatProfile, Profiler } from '../src/gpu/profiler.ts';
import { FAMILIES, forceVersion } from '../src/kernels/families.ts';
import { VersionNotApplicable } from '../src/kernels/family.ts';
import { matmulFamily } from '../src/kernels/matmul.ts';
import { openGpu } from '../src/platform/node/open.ts';
import { empty, full, memory, Scope, scope, tensor, zeros } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

const device = useGpu();

test('an upload does not overtake recorded commands that read the old values', async () => {
  using _s = scope();
  const x = tensor([1, 2, 3, 4]);
  const y = ops.addScalar(x, 10); // recorded, not submitted
  x.write(new Float32Array([100, 200, 300, 400]));
  expect([...(await y.data())]).toEqual([11, 12, 13, 14]);
  expect([...(await x.data())]).toEqual([100, 200, 300, 400]);
});

test('a freed buffer that is written anew does not disturb recorded readers', async () => {
  using _s = scope();
  const x = tensor([1, 2, 3, 4]);
  const y = ops.addScalar(x, 10);
  x.dispose();
  tensor([9, 9, 9, 9]); // takes the same buffer from the pool
  expect([...(await y.data())]).toEqual([11, 12, 13, 14]);
});

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

test('a copy kept for reading as texels gives way when its buffer is written, however that happens', async () => {
  const { gpu } = device;
  const version = ['subgroup_texels', 'naive'].find((name) => name === 'naive' || gpu.subgroupWidth > 0) as string;
  using _s = scope();
  const a = full([32, 32], 1);
  const b = tensor(new Float32Array(32 * 32).fill(1), [32, 32]);
  const first = async () => {
    using _once = scope();
    forceVersion('matmul', version);
    const [value] = await ops.matmul(a, b).data();
    forceVersion('matmul', null);
    return value;
  };
  for (let i = 0; i < 4; i++) expect(await first()).toBe(32); // from the third time on with a kept copy
  b.write(new Float32Array(32 * 32).fill(2));
  expect(await first()).toBe(64);
  expect(await first()).toBe(64);
  gpu.clear(b.slice);
  expect(await first()).toBe(0);
  gpu.copy(a.slice, b.slice, 32 * 32 * 4);
  expect(await first()).toBe(32);
  gpu.dispatch(gpu.kernel({ file: 'axpby' }), [a.slice, b.slice], { count: 32 * 32, alpha: 3, beta: 0 }, [16, 1, 1]);
  expect(await first()).toBe(96);
  gpu.pool.trim();
  expect(memory().texelBytes).toBe(0);
  expect(await first()).toBe(96);
});

test('making room in the midst of a dispatch loses neither its copies nor its parameters', async () => {
  const { gpu } = device;
  if (gpu.subgroupWidth === 0) return;
  using _s = scope();
  const [a, b] = [full([52, 36], 1), full([36, 20], 2)];
  const { reserve } = gpu.pool;
  let trims = 0;
  gpu.pool.trim();
  gpu.pool.reserve = (bytes, label) => {
    if (label.startsWith('copy of') && trims++ < 4) gpu.pool.trim(); // as when the budget is short
    reserve.call(gpu.pool, bytes, label);
  };
  forceVersion('matmul', 'subgroup_texels');
  try {
    const product = await ops.matmul(a, b).data();
    expect(new Set(product)).toEqual(new Set([72]));
    expect(trims).toBeGreaterThan(1);
  } finally {
    forceVersion('matmul', null);
    gpu.pool.reserve = reserve;
  }
});

/** Rows of a matrix that a row of the texture holds; 0 where the texels follow one another whatever the rows. */
test.each([
  [40, 64, 32, 'NN', 1],
  [40, 32, 32, 'NN', 2],
  [40, 36, 36, 'NN', 16],
  [8200, 64, 8, 'NN', 2],
  [12, 8, 2052, 'NN', 0],
  [12, 2052, 8, 'NT', 0],
  [2052, 8, 12, 'TN', 0],
] as const)('%d×%d×%d %s is read as texels whatever their layout', async (m, k, n, order, together) => {
  const { gpu } = device;
  if (gpu.subgroupWidth === 0) return;
  using _s = scope();
  const [transA, transB] = [order[0] === 'T', order[1] === 'T'];
  const values = (rows: number, columns: number, from: number) =>
    tensor(
      new Float32Array(rows * columns).map((_, i) => ((i * 37 + from) % 101) / 50 - 1),
      [rows, columns],
    );
  const a = transA ? values(k, m, 3) : values(m, k, 3);
  const b = transB ? values(n, k, 5) : values(k, n, 5);
  const layouts = [a, b].map(({ shape: [rows, columns] }) => gpu.texelLayout(rows, columns)?.together);
  expect(layouts).toContain(together);
  const product = async (version: string) => {
    forceVersion('matmul', version);
    const result = await ops.matmul(a, b, { transA, transB }).data();
    forceVersion('matmul', null);
    return result;
  };
  const expected = await product('naive');
  const panels = order === 'NN' ? ['subgroup_panels', 'subgroup_panels_half'] : [];
  for (const version of ['subgroup_texels', 'subgroup_texels_half', 'subgroup_texels_wide', ...panels]) {
    const result = await product(version);
    expect(
      result.findIndex((value, i) => !(Math.abs(value - expected[i]) < 1e-3)),
      version,
    ).toBe(-1);
  }
});

test('commands are batched: one submit for many ops', async () => {
  using _s = scope();
  const x = full([64], 1);
  await device.gpu.idle();
  const { submits, dispatches } = device.gpu;
  let y = x;
  for (let i = 0; i < 20; i++) y = ops.addScalar(y, 1);
  expect(device.gpu.submits).toBe(submits);
  expect(await ops.max(y).item()).toBe(21);
  expect(device.gpu.submits).toBe(submits + 1);
  expect(device.gpu.dispatches).toBeGreaterThanOrEqual(dispatches + 21);
});

test('prepared weights are made anew when the weights were written, in a replay too, and go with them', async () => {
  const { gpu } = device;
  if (gpu.subgroupWidth === 0) return;
  using _s = scope();
  const x = full([1, 6, 6, 3], 1); // three channels: weights are put in another order for versions that want them by fours
  const { buffersInUse } = memory();
  const w = tensor(new Float32Array(2 * 2 * 3 * 4).fill(1), [2, 2, 3, 4]);
  const convolve = () => {
    forceVersion('conv2d', 'subgroup_texels');
    const y = Scope.release(ops.conv2d(x, w, null, { stride: 2, layout: 'nhwc' }));
    forceVersion('conv2d', null);
    return y;
  };
  const { result, replay } = gpu.capture(convolve);
  const values = async () => new Set(await result.data());
  expect(await values()).toEqual(new Set([12]));
  const { dispatches } = gpu;
  replay.run();
  const unchanged = gpu.dispatches - dispatches;
  w.write(new Float32Array(2 * 2 * 3 * 4).fill(2));
  replay.run();
  expect(await values()).toEqual(new Set([24]));
  expect(unchanged).toBeLessThanOrEqual(2);
  const again = convolve();
  expect(new Set(await again.data())).toEqual(new Set([24]));
  for (const each of [again, result, w]) each.dispose();
  replay.dispose();
  expect(memory().buffersInUse).toBe(buffersInUse);
});

test('weights lie in panels once they are used again unchanged; a replay puts them so anew only after they were written', async () => {
  const { gpu } = device;
  if (gpu.subgroupWidth === 0) return;
  using _s = scope();
  const [m, k, n] = [40, 8, 36];
  const a = full([m, k], 1);
  const w = tensor(new Float32Array(k * n).fill(1), [k, n]);
  const panels = matmulFamily.versions.find(({ name }) => name === 'subgroup_panels') as (typeof matmulFamily.versions)[number];
  const mayUsePanels = () => panels.unable(gpu, { a: a.slice, b: w.slice, c: a.slice, m, n, k, label: 'test' }) === null;
  expect([mayUsePanels(), mayUsePanels()], 'asking changes nothing').toEqual([false, false]);
  ops.matmul(a, w);
  expect(mayUsePanels()).toBe(true);
  w.write(new Float32Array(k * n).fill(2));
  expect(mayUsePanels()).toBe(false);

  const recorded: string[] = [];
  gpu.trace = (kernel) => recorded.push(kernel);
  forceVersion('matmul', 'subgroup_panels');
  const { result, replay } = gpu.capture(() => Scope.release(ops.matmul(a, w)));
  forceVersion('matmul', null);
  replay.run();
  expect(recorded).toEqual(['column_panels', 'matmul_subgroup_texels', 'matmul_subgroup_texels']);
  expect(new Set(await result.data())).toEqual(new Set([16]));
  w.write(new Float32Array(k * n).fill(3));
  replay.run();
  gpu.trace = null;
  expect(recorded.slice(3)).toEqual(['column_panels', 'matmul_subgroup_texels']);
  expect(new Set(await result.data())).toEqual(new Set([24]));
  replay.dispose();
  result.dispose();
});

test('more dispatches than the uniform ring holds are all right', async () => {
  using _s = scope();
  let y = full([8], 0);
  for (let i = 0; i < 3000; i++) {
    const next = ops.addScalar(y, 1);
    y.dispose();
    y = next;
  }
  expect(await ops.min(y).item()).toBe(3000);
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

test('a shader may be a text of the user: one kernel for each text and each set of constants, errors by its name and line', async () => {
  using _s = scope();
  const text = (expression: string) => `
override FACTOR: f32 = 1.0;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1)
fn main(@builtin(global_invocation_id) id: vec3u) {
  y[id.x] = FACTOR * ${expression};
}`;
  const { gpu } = device;
  const run = async (source: string, FACTOR: number) => {
    const [x, y] = [tensor([1, 2, 3]), zeros([3])];
    gpu.dispatch(gpu.kernel({ file: 'mine', source, constants: { FACTOR } }), [x.slice, y.slice], {}, [3, 1, 1]);
    return [...(await y.data())];
  };
  expect(await run(text('x[id.x]'), 2)).toEqual([2, 4, 6]);
  expect(await run(text('x[id.x]'), 3)).toEqual([3, 6, 9]);
  expect(await run(text('x[2u - id.x]'), 2)).toEqual([6, 4, 2]);
  const kernel = () => gpu.kernel({ file: 'mine', source: text('x[id.x]'), constants: { FACTOR: 2 } });
  expect(kernel()).toBe(kernel());
  expect(() => gpu.kernel({ file: 'mine', source: text('no_such_name') })).toThrow(/compiling mine: [\s\S]*no_such_name[\s\S]*7 \|/);
});

test('the profiler names kernels, sums their time, and gives a Chrome trace', async () => {
  using _s = scope();
  if (!device.gpu.device.features.has('timestamp-query')) return;
  const profiler = new Profiler(device.gpu.device);
  device.gpu.profiler = profiler;
  await ops.softmax(ops.matmul(full([64, 64], 1), full([64, 64], 1))).data();
  device.gpu.profiler = null;
  const table = await profiler.table();
  expect(table.map((row) => row.kernel).join()).toMatch(/matmul.*|softmax.*/);
  expect(table.reduce((sum, row) => sum + row.share, 0)).toBeCloseTo(1);
  expect(formatProfile(table)).toContain('GPU ms');
  expect(JSON.parse(await profiler.chromeTrace()).traceEvents.length).toBe(table.reduce((sum, row) => sum + row.calls, 0));
});

test('other users of setImmediate are not delayed or broken', async () => {
  using _s = scope();
  const pending = tensor([1]).data();
  const order: number[] = [];
  await new Promise<void>((resolve) => {
    setImmediate((a: number, b: number) => order.push(a + b), 1, 2);
    const cancelled = setImmediate(() => order.push(-1));
    clearImmediate(cancelled);
    setImmediate(() => resolve());
  });
  expect(order).toEqual([3]);
  await pending;
});

test('a validation error of Dawn becomes a GpuError that names the operation', () => {
  const { gpu } = device;
  gpu.device.createBuffer({ size: 4, usage: 0xffff });
  expect(() => gpu.check('making a bad buffer')).toThrow(/making a bad buffer: /);
  gpu.check('nothing is left over');
});

test('a capture replays on new inputs and new parameters, and gives its buffers to nobody else', async () => {
  const { gpu } = device;
  const before = memory().bytesInUse;
  const input = tensor([1, 2, 3]);
  let step = 1;
  const { result, replay } = gpu.capture(() => {
    using s = scope();
    const doubled = ops.scale(input, 2);
    return s.keep(ops.add(doubled, ops.dropout(input, { rate: 0.5, seed: 3, step: () => step, stream: 1 })));
  });
  const live = async (values: number[], at: number) => {
    using _s = scope();
    const x = tensor(values);
    return Array.from(await ops.add(ops.scale(x, 2), ops.dropout(x, { rate: 0.5, seed: 3, step: at, stream: 1 })).data());
  };
  expect(Array.from(await result.data())).toEqual(await live([1, 2, 3], 1));
  for (const [values, at] of [
    [[4, 5, 6], 2],
    [[7, 8, 9], 3],
  ] as const) {
    using _s = scope();
    step = at;
    input.write(Float32Array.from(values));
    const bystanders = Array.from({ length: 5 }, () => full([3], 42));
    replay.run();
    expect(Array.from(await result.data())).toEqual(await live([...values], at));
    for (const bystander of bystanders) expect(Array.from(await bystander.data())).toEqual([42, 42, 42]);
  }
  expect(() => gpu.capture(() => void gpu.capture(() => {}))).toThrow(/under way/);
  result.dispose();
  input.dispose();
  replay.dispose();
  expect(() => replay.run()).toThrow(/disposed/);
  expect(memory().bytesInUse).toBe(before);
});

test('a failing copy, upload or readback names the operation and the shapes of both sides', async () => {
  using _s = scope();
  const { gpu } = device;
  const [small, large] = [empty([3, 5], 'f32', 'small'), empty([700, 11], 'f32', 'large')];
  gpu.copy(large.slice, small.slice, 700 * 11 * 4); // Dawn refuses when the encoder is finished
  expect(() => gpu.flush()).toThrow(/submitting 1 commands, the last: copy of 30800 bytes from large \[700,11\] to small \[3,5\]/);
  expect(() => gpu.upload(small.slice, new Float32Array(1000))).toThrow(/upload of 4000 bytes to small \[3,5\]/);
  gpu.copy(large.slice, small.slice, 700 * 11 * 4);
  await expect(gpu.read([large.slice])).rejects.toThrow(/large \[700,11\]/);
  expect(Array.from(await full([2], 1).data())).toEqual([1, 1]); // and the device goes on
});

test.each(FAMILIES.matmul.names)('matmul %s folds more tiles than one dimension of a dispatch takes', async (version) => {
  using _s = scope();
  const rows = 2_200_000;
  const a = tensor(
    Float32Array.from({ length: rows * 4 }, (_, i) => i % 1009),
    [rows, 4],
  );
  const b = tensor(
    Float32Array.from({ length: 16 }, (_, i) => (i % 5 === 0 ? 2 : 0)),
    [4, 4],
  );
  const rowsOf = async () => {
    const data = await ops.slice(ops.matmul(a, b), [rows - 3, 0], [3, 4]).data();
    return Array.from(data);
  };
  const expected = Array.from({ length: 12 }, (_, i) => 2 * (((rows - 3) * 4 + i) % 1009));
  forceVersion('matmul', version);
  try {
    expect(await rowsOf()).toEqual(expected);
  } catch (error) {
    if (!(error instanceof VersionNotApplicable)) throw error;
  } finally {
    forceVersion('matmul', null);
  }
});

test.each(['direct', 'im2col', 'subgroup'])('conv2d %s folds more tiles than one dimension of a dispatch takes', async (version) => {
  using _s = scope();
  const side = 1490;
  const x = tensor(
    Float32Array.from({ length: side * side * 4 }, (_, i) => i % 1009),
    [1, side, side, 4],
  );
  const w = tensor(
    Float32Array.from({ length: 16 }, (_, i) => (i % 5 === 0 ? 2 : 0)),
    [1, 1, 4, 4],
  );
  forceVersion('conv2d', version);
  try {
    const y = ops.conv2d(x, w, null, { layout: 'nhwc' });
    const last = await ops.slice(y, [0, side - 1, side - 2, 0], [1, 1, 2, 4]).data();
    expect(Array.from(last)).toEqual(Array.from({ length: 8 }, (_, i) => 2 * ((side * side * 4 - 8 + i) % 1009)));
  } catch (error) {
    if (!(error instanceof VersionNotApplicable)) throw error;
  } finally {
    forceVersion('conv2d', null);
  }
});

test('a lost device: every later call throws at once, and closing does not hang', async () => {
  const second = await openGpu();
  const x = tensor([1, 2]);
  second.device.destroy();
  await second.device.lost;
  expect(() => tensor([3])).toThrow(/lost|closed/);
  await expect(x.data()).rejects.toThrow(GpuError);
  await second.close();
});
