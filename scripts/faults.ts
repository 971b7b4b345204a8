/**
 * All trials of faults (test/faults), and their table in docs/reliability.md.
 *
 *   npm run test:faults                  everything, from a new seed
 *   npm run test:faults -- kills         only the files whose names have this word; the table stays as it is
 *   GLIMPSE_FAULTS_SEED=7 npm run …      the same trials again
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const PAGE = join(ROOT, 'docs/reliability.md');
const [BEGIN, END] = ['<!-- trials -->', '<!-- end of trials -->'];

interface TrialRecord {
  fault: string;
  what: string;
  tries: number;
  failures: number;
}

function table(records: readonly TrialRecord[], seed: string): string {
  const date = new Date().toISOString().slice(0, 10);
  const rows = records.map(({ fault, what, tries, failures }) => `| ${fault} | ${what} | ${tries.toLocaleString('en-US')} | ${failures} |`);
  const sum = (of: (record: TrialRecord) => number) => records.reduce((total, record) => total + of(record), 0).toLocaleString('en-US');
  return [
    `Made by \`npm run test:faults\` on ${date}, seed ${seed}, Node ${process.versions.node}, ${process.platform}, ${cpus().length} processors.`,
    '',
    '| fault | tried on | tries | failures |',
    '|---|---|---:|---:|',
    ...rows.sort(),
    `| all | | ${sum((r) => r.tries)} | ${sum((r) => r.failures)} |`,
  ].join('\n');
}

const chosen = process.argv.slice(2);
const seed = process.env.GLIMPSE_FAULTS_SEED ?? String(Date.now() % 1e6);
const scratch = mkdtempSync(join(tmpdir(), 'glimpse-faults-'));
const records = join(scratch, 'records.jsonl');
console.log(`seed ${seed}: GLIMPSE_FAULTS_SEED=${seed} repeats these trials`);
const { status } = spawnSync(
  process.execPath,
  ['node_modules/vitest/vitest.mjs', 'run', '--testTimeout=1800000', ...(chosen.length > 0 ? chosen.map((name) => `test/faults/${name}`) : ['test/faults'])],
  {
    cwd: ROOT,
    stdio: 'inherit',
    env: { ...process.env, GLIMPSE_FAULTS_SEED: seed, GLIMPSE_FAULTS_RECORDS: records },
  },
);
if (existsSync(records)) {
  const made = readFileSync(records, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as TrialRecord);
  const text = table(made, seed);
  console.log(`\n${text}`);
  if (chosen.length === 0) {
    const page = readFileSync(PAGE, 'utf8');
    const [before, after] = [page.slice(0, page.indexOf(BEGIN) + BEGIN.length), page.slice(page.indexOf(END))];
    writeFileSync(PAGE, `${before}\n${text}\n${after}`);
  }
}
rmSync(scratch, { recursive: true, force: true });
process.exit(status ?? 1);
