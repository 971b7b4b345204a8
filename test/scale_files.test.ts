/** The files for schedulers in docs/scale: their shell is sound, and the commands in them have the options that they name. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { glimpse } from './support.ts';

const FOLDER = join(import.meta.dirname, '../docs/scale');
const files = readdirSync(FOLDER).filter((name) => /\.(sbatch|yaml)$/.test(name));

test.each(files)('%s', async (name) => {
  const text = readFileSync(join(FOLDER, name), 'utf8').replace(/\\\n\s*/g, ' ');
  if (name.endsWith('.sbatch')) expect(spawnSync('bash', ['-n'], { input: text, encoding: 'utf8' })).toMatchObject({ status: 0, stderr: '' });
  const commands = [...text.matchAll(/^[^#\n]*(?:glimpse\.js|"\$GLIMPSE") (\w+) ([^\n]*)/gm)];
  expect(commands).toHaveLength(1);
  const [, command, given] = commands[0];
  const { stdout } = await glimpse(command, '--help');
  const named = [...given.matchAll(/(?<=^| )--[a-z-]+/g)].map(([option]) => option);
  expect(named).toEqual(expect.arrayContaining(['--data', '--out']));
  for (const option of named) expect(stdout).toMatch(new RegExp(`${option}\\b(?!-)`));
});

test('there are files for both schedulers', () => expect(files).toHaveLength(4));
