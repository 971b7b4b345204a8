/** `glimpse plot` of a log that a killed run left: what is whole is drawn, a half last line is told, a fault elsewhere is an error. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { glimpse, temporaryFolder } from './support.ts';

const folder = temporaryFolder();

const step = (batch: number) => JSON.stringify({ kind: 'step', epoch: 1, batch, batches: 4, lossPerToken: 4 - batch / 2, gradNorm: 1 });
const run = (name: string, text: string): string => {
  const path = join(folder, name);
  mkdirSync(path);
  writeFileSync(join(path, 'log.jsonl'), text);
  return path;
};

test.each([
  ['half an entry', `${step(1)}\n${step(2)}\n${step(3).slice(0, 40)}`, 3, 2],
  ['zero bytes, as after a power cut', `${step(1)}\n\0\0\0\0`, 2, 1],
])('%s', async (name, text, line, steps) => {
  const own = run(name, text);
  const { code, stdout, stderr } = await glimpse('plot', own, '--json');
  expect(code).toBe(0);
  expect(stderr).toMatch(new RegExp(`log\\.jsonl: line ${line}, the last one, is cut off and not drawn`));
  expect(JSON.parse(stdout)).toMatchObject({ steps, cut: [{ log: join(own, 'log.jsonl'), line }] });
  expect(readFileSync(join(own, 'curves.html'), 'utf8')).toContain('nats per token');
});

test.each([
  ['in the middle', `${step(1)}\n${step(2).slice(0, 40)}\n${step(3)}\n`, /line 2 is no entry of a training log: /],
  ['in the last line, which is ended', `${step(1)}\n${step(2).slice(0, 40)}\n`, /line 2 is no entry of a training log: /],
  [
    'a whole entry of another kind at the end',
    `${step(1)}\n{"kind": "stap"}`,
    /line 2 is no entry .*: kind: expected step or epoch, received "stap" \(did you mean "step"\?\)/,
  ],
  ['a field that is missing', `{"kind": "step"}\n${step(1)}\n`, /line 1 is no entry .*: epoch: expected number, received nothing/],
  ['nothing but half a line', step(1).slice(0, 40), /holds no training step yet/],
])('a fault stays an error: %s', async (name, text, message) => {
  expect(await glimpse('plot', run(name, text))).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(message) });
});

test('a last entry without its line feed is whole', async () => {
  const { stdout, stderr } = await glimpse('plot', run('whole', `${step(1)}\n${step(2)}`), '--json');
  expect(JSON.parse(stdout)).toMatchObject({ steps: 2, cut: [] });
  expect(stderr).toBe('');
});
