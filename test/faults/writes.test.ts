/**
 * Full disks, failing disks and short writes, at every place where a command changes files: it ends with exit code 1 and a message, leaves
 * no half of a file under its final name, and the same command afterwards gives what it gives where nothing failed.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import { expect, test } from 'vitest';
import { captionerRun } from '../captioner_run.ts';
import { glimpse, temporaryFolder } from '../support.ts';
import { callsOf, glimpseWith, tensorsOf } from './faulty_process.ts';
import { counted, isWhole, randomFor, trial, trials, whole } from './trials.ts';

const folder = temporaryFolder();
const made = captionerRun(folder);

/** Commands that write, all into OUT. A run and a store go on where they stopped. */
const COMMANDS: Record<string, (out: string, again: boolean) => Promise<string[]>> = {
  features: async (out) => {
    const { data, encoder } = await made.features();
    return ['features', '--data', data, '--encoder', encoder, '--preprocess', 'imagenet', '--skip-bad', '--batch', '4', '--out', join(out, 'store')];
  },
  train: async (out, again) => {
    const { trainArgs } = await made.features();
    return [...trainArgs, '--epochs', '2', '--save-every', '1', '--out', join(out, 'run'), ...(again ? ['--resume'] : [])];
  },
  merge: async (out) => {
    const { store } = await made.features();
    return ['merge', join(out, 'merged'), store];
  },
  prepare: async (out) => {
    const { images } = await made.features();
    return ['prepare', '--coco-train', join(folder, 'coco.json'), '--images', images, '--skip-bad', '--out', join(out, 'dataset.json')];
  },
  plot: async (out) => {
    const { run } = await made.trained();
    return ['plot', run, '--out', join(out, 'curve.svg')];
  },
  gallery: async (out) => {
    const { run, images } = await made.trained();
    return ['gallery', run, join(images, '0.jpg'), '--out', join(out, 'gallery')];
  },
};
const FEW = ['features', 'merge'];

/** Files by path. Checkpoints without what depends on time, logs without times. */
function contents(out: string): Record<string, unknown> {
  const files = readdirSync(out, { recursive: true, withFileTypes: true }).filter((each) => each.isFile());
  return Object.fromEntries(
    files
      .filter(({ name }) => !name.startsWith('events.'))
      .map(({ parentPath, name }) => {
        const path = join(parentPath, name);
        const bytes = readFileSync(path);
        const timeless = /\.(jsonl|svg|html|json)$/.test(name) ? bytes.toString('utf8').replace(/"(seconds|tokensPerSecond)":[\d.e-]+/g, '') : bytes;
        return [relative(out, path), name.endsWith('.safetensors') ? tensorsOf(path) : timeless];
      }),
  );
}

test.each(isWhole ? Object.keys(COMMANDS) : FEW)('%s', async (name) => {
  const command = COMMANDS[name];
  const random = randomFor(`failing writes, ${name}`);
  const fresh = (title: string) => {
    const out = join(folder, name, title);
    rmSync(out, { recursive: true, force: true });
    mkdirSync(out, { recursive: true });
    return out;
  };
  const right = fresh('right');
  const calls = await callsOf([...(await command(right, false)), '--quiet'], folder);
  for (const kind of ['ENOSPC', 'EIO', 'short'] as const) {
    const record = counted(kind === 'short' ? 'short writes' : `failing writes (${kind})`, name);
    for (let i = 0; i < trials(1, 8); i++) {
      const out = fresh('tried');
      const fault = `${kind}:${whole(random, 1, calls + 1)}`;
      await trial(record, async () => {
        const { code, stderr } = await glimpseWith(fault, [...(await command(out, false)), '--quiet']);
        if (kind !== 'short') {
          expect([code, stderr], fault).toEqual([1, expect.stringMatching(/^glimpse: .*(no space is left on the disk|the disk fails to read or write)/m)]);
          expect(stderr, fault).not.toMatch(/unexpected failure|\n {4}at /);
          const again = await command(
            out,
            existsSync(join(out, 'run', 'checkpoints')) && readdirSync(join(out, 'run', 'checkpoints')).some((each) => /safetensors$/.test(each)),
          );
          const retried = await glimpse(...again, '--quiet');
          expect([retried.code, retried.stderr], fault).toEqual([0, expect.any(String)]);
        } else expect([code, stderr], fault).toEqual([0, expect.any(String)]);
        expect(contents(out), fault).toEqual(contents(right));
      });
    }
  }
});
