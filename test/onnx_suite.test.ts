/** ONNX's own tests of operators and models, from Debian's libonnx-testdata. */
import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import { contradictionOf, runSet, SETS, SUITE } from '../scripts/onnx_suite.ts';
import { useGpu } from './support.ts';

useGpu();

if (!existsSync(SUITE)) console.warn(`SKIPPED: ONNX's tests are not in ${SUITE}; install libonnx-testdata, or set GLIMPSE_ONNX_TESTS`);

/** The least share of each set that must pass. */
const LEAST: Record<string, number> = { node: 0.97, simple: 1, 'pytorch-converted': 1, 'pytorch-operator': 1 };

test.skipIf(!existsSync(SUITE)).each(SETS)('%s: none is wrong, none crashes, each refusal is named', { timeout: 300_000 }, async (set) => {
  const cases = await runSet(set);
  const failed = cases.filter(({ status, test: name }) => status === 'failed' && contradictionOf(name) === null);
  expect(failed.map(({ test: name, reason }) => `${name}: ${reason}`)).toEqual([]);
  for (const { status, reason } of cases) if (status === 'unsupported') expect(reason).toMatch(/node ".*"( \(.*\))?: ./);
  expect(cases.filter(({ status }) => status === 'passed').length / cases.length).toBeGreaterThanOrEqual(LEAST[set]);
});

test.skipIf(!existsSync(SUITE))('what is listed as contradicted fails, for as long as it is listed', { timeout: 300_000 }, async () => {
  const cases = (await runSet('node')).filter(({ test: name }) => contradictionOf(name) !== null);
  expect(cases.filter(({ status }) => status === 'passed').map(({ test: name }) => name)).toEqual([]);
});
