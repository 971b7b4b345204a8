/** Fine-tuning of the encoder by its command. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readSafetensors } from '../src/data/safetensors.ts';
import { captionerRun } from './captioner_run.ts';
import { glimpse, temporaryFolder } from './support.ts';

const folder = temporaryFolder();

const made = captionerRun(folder);

test('fine-tuning trains the encoder too; its features are its own, and a resumed run equals an unbroken one', async () => {
  const { images, data, store, trainArgs } = await made.features();
  const out = join(folder, 'tuned');
  const tune = ['--fine-tune', 'w', '--encoder-rate', '0.001'];
  const args = [...trainArgs, ...tune, '--epochs', '3', '--quiet'];
  expect((await glimpse(...args, '--out', out)).code).toBe(0);
  const checkpoint = (path: string, epoch: number) => readSafetensors(join(path, 'checkpoints', `epoch-00${epoch}.safetensors`)).tensors.get('encoder.w');
  const [first, third] = [checkpoint(out, 1), checkpoint(out, 3)];
  expect(first?.shape).toEqual([32, 32, 3, 8]);
  expect(third?.data).not.toEqual(first?.data);
  const broken = join(folder, 'tuned2');
  expect((await glimpse(...args.map((arg) => (arg === '3' ? '1' : arg)), '--out', broken)).code).toBe(0);
  expect((await glimpse(...args, '--out', broken, '--resume')).code).toBe(0);
  expect(checkpoint(broken, 3)?.data).toEqual(third?.data); // bit for bit
  const stale = await glimpse('eval', out, '--data', data, '--features', store);
  expect(stale).toMatchObject({ code: 1, stderr: expect.stringMatching(/tuned differ.*features --model/) });
  const own = join(folder, 'tuned-features');
  expect((await glimpse('features', '--data', data, '--model', out, '--out', own, '--skip-bad', '--quiet')).code).toBe(0);
  expect((await glimpse('eval', out, '--data', data, '--features', own, '--bootstrap', '0', '--quiet')).code).toBe(0);
  expect((await glimpse('caption', out, join(images, '15.jpg'), '--quiet')).code).toBe(0);
  const unknown = await glimpse(...trainArgs, '--fine-tune', 'layer9', '--out', join(folder, 'none'));
  expect(unknown).toMatchObject({ code: 2, stderr: expect.stringContaining('no convolution in a layer called "layer9"') });
});
