/** What is no ordinary file, in the place of every file that a command takes: a folder, a pipe, a device, an absent file. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { captionerRun } from '../captioner_run.ts';
import { glimpse, temporaryFolder } from '../support.ts';
import { counted, isWhole, trial } from './trials.ts';

const folder = temporaryFolder();
const made = captionerRun(folder);

test.runIf(process.platform === 'linux')('each is refused at once, in one line', async () => {
  const record = counted('folders, pipes and devices as files', 'every command');
  const { data, store, encoder, run, images, trainArgs } = await made.trained();
  const picture = join(images, '0.jpg');
  const pipe = join(folder, 'pipe');
  execFileSync('mkfifo', [pipe]);
  mkdirSync(join(folder, 'empty'));
  const odd = { folder: join(folder, 'empty'), pipe, device: '/dev/zero', absent: join(folder, 'absent') };
  const out = join(folder, 'out');
  const places: Record<string, (file: string) => string[]> = {
    'prepare --coco-train': (file) => ['prepare', '--coco-train', file, '--images', images, '--out', out],
    'prepare --table': (file) => ['prepare', '--table', file, '--images', images, '--out', out],
    'prepare --flickr': (file) => ['prepare', '--flickr', file, '--train-list', file, '--images', images, '--out', out],
    'prepare --karpathy': (file) => ['prepare', '--karpathy', file, '--images', images, '--out', out],
    'features --data': (file) => ['features', '--data', file, '--encoder', encoder, '--preprocess', 'imagenet', '--out', out],
    'features --encoder': (file) => ['features', '--data', data, '--encoder', file, '--preprocess', 'imagenet', '--out', out],
    'train --data': (file) => ['train', '--data', file, '--features', store, '--out', out],
    'train --word-vectors': (file) => [...trainArgs, '--word-vectors', file, '--out', out],
    'caption PICTURE': (file) => ['caption', run, file],
    'caption MODEL': (file) => ['caption', file, picture],
    'caption --encoder': (file) => ['caption', run, picture, '--encoder', file],
    'gallery --references': (file) => ['gallery', run, picture, '--references', file, '--out', out],
    'score --references': (file) => ['score', '--references', file, '--candidates', join(folder, 'coco.json')],
    'score --candidates': (file) => ['score', '--references', join(folder, 'coco.json'), '--candidates', file],
    'plot RUN': (file) => ['plot', file, '--out', `${out}.svg`],
    'profile MODEL': (file) => ['profile', file, picture],
  };
  const tried = Object.entries(places).filter((_, i) => isWhole || i % 3 === 0);
  for (const [place, command] of tried) {
    for (const [kind, file] of Object.entries(odd)) {
      rmSync(out, { recursive: true, force: true });
      await trial(record, async () => {
        const { code, stderr, stdout } = await glimpse(...command(file), '--quiet');
        const where = `${place}: ${kind}`;
        expect([1, 2], `${where}: ${stdout} ${stderr}`).toContain(code);
        expect(stderr, where).toMatch(/^glimpse: /m);
        expect(stderr, where).not.toMatch(/unexpected failure|EISDIR|\n {4}at /);
      });
    }
  }
});
