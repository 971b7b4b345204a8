/** Sums of gradients have the same bits on the device and on the host, for any numbers: what `--reduce ordered` stands on. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { gradOf } from '../src/autograd/tape.ts';
import { fromBfloat } from '../src/data/bfloat.ts';
import { accumulate } from '../src/kernels/optimizer.ts';
import { addPart, toBits16 } from '../src/model/training/gradient_sum.ts';
import { Optimizer } from '../src/nn/optimizer.ts';
import { Parameters } from '../src/nn/parameters.ts';
import { scope } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

const device = useGpu();

/** Numbers by their bits: subnormal, least normal, halfway between two of 16 bits, largest, infinite. */
const AT_THE_EDGE = [0x0, 0x80000000, 0x1, 0x807fffff, 0x7fffff, 0x800000, 0x80800001, 0x3f808000, 0x3f818000, 0x3f808001, 0x7f7fffff, 0xff7fffff, 0x7f800000];

const bits = fc.oneof(
  fc.constantFrom(...AT_THE_EDGE),
  fc.integer({ min: 0, max: 0xffffffff }).filter((word) => (word & 0x7f800000) !== 0x7f800000),
  fc.integer({ min: 0, max: 0x00ffffff }),
);

const floats = (words: readonly number[]) => new Float32Array(Uint32Array.from(words).buffer);
const wordsOf = (values: Float32Array) => [...new Uint32Array(values.buffer, values.byteOffset, values.length)];
/** NaN has many bits. */
const plain = (values: Float32Array) => wordsOf(values).map((word) => ((word & 0x7fffffff) > 0x7f800000 ? 'NaN' : word));

function onHost(parts: readonly Float32Array[], bits16: boolean): Float32Array {
  const sum = new Float32Array(parts[0].length);
  const halves = new Uint16Array(sum.length);
  const short = (values: Float32Array) => {
    if (!bits16) return values;
    const out = new Float32Array(values.length);
    toBits16(values, halves);
    fromBfloat(halves, out);
    return out;
  };
  parts.forEach((part, i) => {
    addPart(sum, short(part), i === 0);
  });
  return short(sum);
}

async function onDevice(parts: readonly Float32Array[], bits16: boolean): Promise<Float32Array> {
  const { gpu } = device;
  const count = parts[0].length;
  const bytes = Math.ceil(count / 4) * 16;
  const slice = (label: string) => ({ buffer: gpu.pool.acquire(bytes, label), offset: 0, bytes });
  const [sum, x] = [slice('sum'), slice('x')];
  parts.forEach((part, i) => {
    gpu.upload(x, part);
    accumulate(gpu, sum, x, count, { first: i === 0, last: i === parts.length - 1, bits16 });
  });
  const [all] = await gpu.read([sum]);
  for (const { buffer } of [sum, x]) gpu.pool.release(buffer);
  return new Float32Array(all).slice(0, count);
}

test.each([false, true])('of 1 to 4 parts, rounded to 16 bits: %s', async (bits16) => {
  const parts = fc
    .tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 37 }))
    .chain(([count, length]) => fc.array(fc.array(bits, { minLength: length, maxLength: length }), { minLength: count, maxLength: count }));
  await fc.assert(
    fc.asyncProperty(parts, async (words) => {
      const values = words.map(floats);
      expect(plain(await onDevice(values, bits16))).toEqual(plain(onHost(values, bits16)));
    }),
    { numRuns: 60, seed: 1 },
  );
});

test('of more numbers than one workgroup has', async () => {
  const parts = [1, 2, 3].map((seed) => Float32Array.from({ length: 70_001 }, (_, i) => Math.sin(seed * i) * 10 ** ((i % 60) - 45)));
  for (const bits16 of [false, true]) expect(wordsOf(await onDevice(parts, bits16))).toEqual(wordsOf(onHost(parts, bits16)));
});

test('16 bits keep 8 digits of the mantissa, rounded to nearest, ties to even', () => {
  const halves = new Uint16Array(6);
  toBits16(Float32Array.of(1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20, -1e30, 2 ** -127), halves);
  const back = new Float32Array(6);
  fromBfloat(halves, back);
  expect([...back.slice(0, 4)]).toEqual([1, 1, 1 + 2 ** -6, 1 + 2 ** -7]);
  expect(Math.abs(back[4] / -1e30 - 1)).toBeLessThan(2 ** -8);
  expect(back[5]).toBe(0); // subnormal
});

test('an optimizer takes the sum once there is one', async () => {
  using _s = scope();
  const parameters = new Parameters();
  const p = parameters.add('p', [3], Float32Array.of(1, 2, 3));
  const optimizer = new Optimizer(parameters, { kind: 'sgd', rate: 1 });
  const give = (...values: number[]) => gradOf(p)?.write(Float32Array.from(values));
  give(1, 0, 0);
  optimizer.accumulate({ first: true, last: false, bits16: false });
  give(0, 1, 0.5);
  optimizer.accumulate({ first: false, last: true, bits16: false });
  optimizer.step();
  expect([...(await p.data())]).toEqual([0, 1, 2.5]);
  expect(await optimizer.norm.item()).toBeCloseTo(1.5, 6);
  optimizer.dispose();
  parameters.dispose();
});
