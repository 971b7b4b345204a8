/** The examples and the lines of the README run as they stand, and print what they say they print. */
import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { COLORS, writeTinyEncoder } from './captioner_run.ts';
import { temporaryFolder } from './support.ts';

const ROOT = resolve(import.meta.dirname, '..');
const EXAMPLES = join(ROOT, 'examples');
const folder = temporaryFolder();

/** Standard output of a program, run as a user runs it. */
async function outputOf(file: string, args: readonly string[] = []): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', file, ...args], { cwd: ROOT });
  return stdout.trim();
}

const NUMBER = /-?\d+(?:\.\d+)?(?:e[+-]?\d+)?/g;

/** The same text, and numbers that differ by no more than the share. */
function expectPrinted(actual: string, expected: string, share: number): void {
  expect(actual.replace(NUMBER, '#')).toBe(expected.replace(NUMBER, '#'));
  const numbers = (text: string) => (text.match(NUMBER) ?? []).map(Number);
  const wanted = numbers(expected);
  numbers(actual).forEach((value, i) => {
    expect(Math.abs(value - wanted[i]), `${value} for ${wanted[i]} in\n${actual}`).toBeLessThanOrEqual(1e-5 + share * Math.abs(wanted[i]));
  });
}

/** What a program says that it prints: the comment at its end, and by what share numbers may differ on another adapter. */
function promised(source: string): { text: string; share: number } {
  const [, percent = '0.1', text] = /\n\/\/ prints(?:, numbers within ([\d.]+) %)?(?: \(.*\))?:\n((?:\/\/.*\n)+)$/.exec(source) ?? [];
  if (text === undefined) throw new Error('has no comment "// prints:" at its end');
  return { text: text.replace(/^\/\/ ?/gm, '').trim(), share: Number(percent) / 100 };
}

test('a promise is not kept by any output', () => {
  expect(() => expectPrinted('loss 1.5', 'loss 1.5', 0)).not.toThrow();
  expect(() => expectPrinted('loss 1.5', 'loss 1.6', 0.001)).toThrow();
  expect(() => expectPrinted('loss 1.5 1', 'loss 1.5', 0.001)).toThrow();
  expect(() => expectPrinted('loss 1.5', 'Loss 1.5', 0.001)).toThrow();
  expect(() => promised('const a = 1;\n')).toThrow('prints');
});

const [pictures, table, encoder, run] = ['pictures', 'captions.csv', 'encoder.onnx', 'run'].map((name) => join(folder, name));

/** Pictures of one color each, a table of their captions, and an encoder of one convolution. */
async function makeFolder(): Promise<void> {
  mkdirSync(pictures);
  const rows = ['image,caption'];
  for (let i = 0; i < 24; i++) {
    const [name, background] = Object.entries(COLORS)[i % 3];
    await sharp({ create: { width: 40 + i, height: 30, channels: 3, background } })
      .jpeg()
      .toFile(join(pictures, `${i}.jpg`));
    rows.push(`${i}.jpg,"A ${name} picture, nothing else."`, `${i}.jpg,A ${name} picture nothing else`, `${i}.jpg,All of it is ${name}.`);
  }
  writeFileSync(table, `${rows.join('\n')}\n`);
  writeTinyEncoder(encoder);
}

async function runExample(name: string, args: readonly string[] = []): Promise<void> {
  const path = join(EXAMPLES, name);
  const { text, share } = promised(readFileSync(path, 'utf8'));
  expectPrinted(await outputOf(path, args), text, share);
}

/** Examples that need a folder, in the order in which one makes what the next takes. */
const ON_A_FOLDER = ['train_on_folder.ts', 'caption_photograph.ts'];
const all = readdirSync(EXAMPLES);

describe('examples', () => {
  test.each(all)('%s has at most 60 lines', (name) => {
    expect(readFileSync(join(EXAMPLES, name), 'utf8').trimEnd().split('\n').length).toBeLessThanOrEqual(60);
  });

  test.each(all.filter((name) => name.endsWith('.ts') && !ON_A_FOLDER.includes(name)))('%s', (name) => runExample(name));

  test(ON_A_FOLDER.join(', then '), async () => {
    await makeFolder();
    await runExample(ON_A_FOLDER[0], [pictures, table, encoder, run]);
    const unseen = join(folder, 'unseen.png');
    await sharp({ create: { width: 64, height: 64, channels: 3, background: COLORS.green } }).toFile(unseen);
    await runExample(ON_A_FOLDER[1], [run, unseen]);
  });
});

test('the lines of the README', async () => {
  const [, source] = /```ts\n([\s\S]*?)```/.exec(readFileSync(join(ROOT, 'README.md'), 'utf8')) ?? [];
  const { text, share } = promised(source);
  const path = join(folder, 'readme.mts');
  writeFileSync(path, source);
  expectPrinted(await outputOf(path), text, share);
});
