/** Vision transformers by the commands: features, training with the encoder, captions, and maps of attention over their grid. */
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readSafetensors } from '../src/data/safetensors.ts';
import { captionerRun } from './captioner_run.ts';
import { glimpse, temporaryFolder } from './support.ts';

const folder = temporaryFolder();
const made = captionerRun(folder);

test('a CLIP from its folder: its grid is said, the last layer is trained with the captioner, and maps cover the grid', async () => {
  const { images, data } = await made.dataset();
  const clip = join(folder, 'clip');
  cpSync(join(import.meta.dirname, 'goldens/vit/clip'), clip, { recursive: true });
  const store = join(folder, 'clip-features');
  const extracted = await glimpse('features', '--data', data, '--encoder', clip, '--out', store);
  expect(extracted).toMatchObject({ code: 0, stdout: expect.stringMatching(/pictures of 16 × 14, 0 left out/) });
  expect(extracted.stderr).toMatch(/feature map "last_hidden_state", preprocessing shortest edge to 16 by bicubic, crop 16, rgb \/ 255, mean 0\.48145466 /);
  expect(extracted.stderr).toMatch(/features: 4 × 4 regions of 14 numbers; the token before them, which is of no region, is left out/);
  expect(extracted.stderr).toMatch(/6 tensors of the file are not used: post_layernorm \(2\), logit_scale \(1\), text_model \(1\)/);
  const { encoder } = JSON.parse(readFileSync(join(store, 'features.json'), 'utf8'));
  expect(encoder).toMatchObject({ featureMap: 'last_hidden_state', layout: 'NTC', dropped: 1, tuned: null });

  const run = join(folder, 'clip-run');
  const args = [
    'train',
    '--data',
    data,
    '--features',
    store,
    '--out',
    run,
    '--epochs',
    '1',
    '--batch-images',
    '5',
    '--captions',
    '2',
    '--dropout',
    '0',
    '--quiet',
  ];
  expect(await glimpse(...args, '--fine-tune', 'last:1', '--encoder-rate', '0.001')).toMatchObject({ code: 0 });
  const { tensors } = readSafetensors(join(run, 'checkpoints/epoch-001.safetensors'));
  const trained = [...tensors.keys()].filter((name) => name.startsWith('encoder.'));
  expect(trained).toHaveLength(16);
  expect(trained).toContain('encoder.encoder.layers.1.self_attn.q_proj.weight');

  const moved = join(folder, 'moved');
  cpSync(clip, moved, { recursive: true });
  const picture = join(images, '15.jpg');
  const [here, there] = [
    await glimpse('caption', run, picture, '--quiet'),
    await glimpse('caption', run, picture, '--encoder', join(moved, 'model.safetensors'), '--quiet'),
  ];
  expect(here).toMatchObject({ code: 0 });
  expect(there.stdout).toBe(here.stdout);
  const config = JSON.parse(readFileSync(join(moved, 'config.json'), 'utf8'));
  writeFileSync(join(moved, 'config.json'), JSON.stringify({ ...config, vision_config: { ...config.vision_config, layer_norm_eps: 0.01 } }));
  expect(await glimpse('caption', run, picture, '--encoder', moved)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('is not the encoder this model was trained with'),
  });

  // The trained layer is in the exported encoder, and the page's model says the same words with it.
  for (const format of ['onnx', 'web']) {
    const exported = join(folder, `clip as ${format}`);
    expect(await glimpse('export', run, '--format', format, '--out', exported, '--quiet')).toMatchObject({ code: 0 });
    if (format === 'onnx') expect(readFileSync(join(exported, 'README.md'), 'utf8')).toContain('--encoder encoder.onnx --feature features');
    else expect((await glimpse('caption', exported, picture, '--quiet')).stdout).toBe(here.stdout);
  }

  const page = join(folder, 'gallery');
  expect(await glimpse('gallery', run, picture, '--out', page, '--quiet')).toMatchObject({ code: 0 });
  expect(existsSync(join(page, 'index.html'))).toBe(true);
  expect(readdirSync(page).filter((name) => name.endsWith('.png'))).toHaveLength(1);
});

test('refused before any picture is read: a preprocessing beside another, a grid, a feature that is not there', async () => {
  const { data, encoder } = await made.dataset();
  const vit = join(import.meta.dirname, 'goldens/vit/vit');
  const features = (...args: string[]) => glimpse('features', '--data', data, '--out', join(folder, 'none'), ...args);
  expect(await features('--encoder', vit, '--preprocess', 'imagenet')).toMatchObject({ code: 2, stderr: expect.stringContaining('leave the option out') });
  expect(await features('--encoder', vit, '--grid', '14')).toMatchObject({ code: 2, stderr: expect.stringContaining('--grid cannot change it') });
  expect(await features('--encoder', encoder, '--preprocess', 'imagenet', '--feature', 'none')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('makes no value called "none"'),
  });
  expect(await features('--encoder', folder)).toMatchObject({ code: 1, stderr: expect.stringContaining('holds no model.safetensors') });
  expect(existsSync(join(folder, 'none'))).toBe(false);
});
