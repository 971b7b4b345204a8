/** Uploads through buffers that stay mapped, which only real GPUs get: the same bytes in the same order as by `writeBuffer`. */
import { expect, test } from 'vitest';
import { Uploads } from '../src/gpu/uploads.ts';
import { useGpu } from './support.ts';

const device = useGpu();

const MEGABYTE = 1 << 20;

async function read(buffer: GPUBuffer): Promise<Uint32Array> {
  const { device: of } = device.gpu;
  const staging = of.createBuffer({ size: buffer.size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const encoder = of.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, 0, staging, 0, buffer.size);
  of.queue.submit([encoder.finish()]);
  await staging.mapAsync(GPUMapMode.READ);
  const words = new Uint32Array(staging.getMappedRange().slice(0));
  staging.destroy();
  return words;
}

const storage = (bytes: number) => device.gpu.device.createBuffer({ size: bytes, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC });
const counting = (words: number, from: number) => Uint32Array.from({ length: words }, (_, i) => from + i);

test('small and large ones, at an offset, of a part of an array', async () => {
  const uploads = new Uploads(device.gpu.device, true);
  const to = storage(4 * MEGABYTE);
  uploads.write(to, 0, counting(MEGABYTE, 0));
  uploads.write(to, 8, counting(2, 7_000_000));
  uploads.write(to, 64, counting(MEGABYTE, 5).subarray(3, 3 + MEGABYTE / 2));
  const got = await read(to);
  const expected = counting(MEGABYTE, 0);
  expected.set([7_000_000, 7_000_001], 2);
  expected.set(counting(MEGABYTE / 2, 8), 16);
  expect(Buffer.compare(Buffer.from(got.buffer), Buffer.from(expected.buffer))).toBe(0);
  to.destroy();
});

test('one after the other, before the device has taken the last: nothing is overwritten, and buffers are used again', async () => {
  const { device: of } = device.gpu;
  const uploads = new Uploads(of, true);
  const create = of.createBuffer.bind(of);
  let made = 0;
  of.createBuffer = (descriptor) => {
    if (descriptor.label === 'upload') made++;
    return create(descriptor);
  };
  try {
    const targets = Array.from({ length: 12 }, () => storage(MEGABYTE));
    for (const [i, to] of targets.entries()) uploads.write(to, 0, counting(MEGABYTE / 4, 1000 * i));
    for (const [i, to] of targets.entries()) expect((await read(to)).slice(0, 3)).toEqual(counting(3, 1000 * i));
    const before = made;
    for (let i = 0; i < 5; i++) {
      uploads.write(targets[0], 0, counting(MEGABYTE / 4, i));
      await of.queue.onSubmittedWorkDone();
      expect((await read(targets[0]))[1]).toBe(i + 1);
    }
    expect(made).toBe(before);
    for (const to of targets) to.destroy();
  } finally {
    of.createBuffer = create;
  }
});
