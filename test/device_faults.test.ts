/** What the device reports becomes an error that names the operation; a lost device is told at once. */
import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { GpuError } from '../src/errors.ts';
import { openGpu } from '../src/platform/node/open.ts';
import { tensor } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

const device = useGpu();

test('a validation error of Dawn becomes a GpuError that names the operation', () => {
  const { gpu } = device;
  gpu.device.createBuffer({ size: 4, usage: 0xffff });
  expect(() => gpu.check('making a bad buffer')).toThrow(/making a bad buffer: /);
  gpu.check('nothing is left over');
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

test.runIf(process.platform === 'linux')('devices that are opened and closed leave no threads behind', async () => {
  const threads = () => readdirSync('/proc/self/task').length;
  const openAndClose = async () => {
    const gpu = await openGpu();
    expect(await tensor([1, 2]).data()).toEqual(Float32Array.of(1, 2));
    await gpu.close();
  };
  for (let i = 0; i < 3; i++) await openAndClose();
  const before = threads();
  for (let i = 0; i < 10; i++) await openAndClose();
  expect(threads()).toBeLessThanOrEqual(before + 2);
});
