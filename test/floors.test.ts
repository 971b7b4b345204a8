/** The floors of docs/architecture.md hold: no file imports from above, and GPU objects stay below. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { expect, test } from 'vitest';

const SOURCE = resolve(import.meta.dirname, '../src');
/** Lower floors first; data and metrics stand beside the engine and know nothing of it. */
const FLOOR: Record<string, number> = {
  gpu: 0,
  kernels: 1,
  platform: 1.5,
  tensor: 2,
  autograd: 3,
  nn: 4,
  data: 0,
  metrics: 0,
  plot: 0,
  tuning: 4,
  model: 5,
  study: 5.5,
  cli: 6,
};
const ENGINE = ['gpu', 'kernels', 'tensor', 'autograd', 'nn'];

const files = readdirSync(SOURCE, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts') && name.includes('/'));
const floorOf = (path: string) => relative(SOURCE, path).split('/')[0];

test.each(files)('%s', (name) => {
  const text = readFileSync(join(SOURCE, name), 'utf8');
  const own = floorOf(join(SOURCE, name));
  for (const [, target] of text.matchAll(/from '(\.[^']+)'/g)) {
    const floor = floorOf(resolve(SOURCE, dirname(name), target));
    if (floor.endsWith('.ts')) continue; // errors.ts, random.ts and context.ts lie below every floor
    expect(FLOOR[floor], `${name} imports ${target}`).toBeLessThanOrEqual(FLOOR[own]);
    if (ENGINE.includes(own)) expect(floor, `${name} imports ${target}: the host hands in what the engine needs`).not.toBe('platform');
    if (own === 'data' || own === 'metrics') expect(ENGINE, `${name} imports ${target}`).not.toContain(floor);
    // What the next floor must not know: kernels know no tensors.
    if (own === 'kernels') expect(floor, `${name} imports ${target}`).not.toBe('tensor');
  }
  if (own !== 'gpu' && own !== 'platform')
    expect(text, `${name} uses a GPU object`).not.toMatch(/\bGPU(Device|Buffer|Adapter|ComputePipeline|BindGroup|CommandEncoder)\b/);
  expect(text.trimStart(), `${name} opens with why it exists`).toMatch(/^(#!.*\n)?\/\*\*/);
});
