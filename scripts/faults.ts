/**
 * All trials of faults (test/faults), and their table in docs/reliability.md.
 *
 *   npm run test:faults                  everything, from a new seed
 *   npm run test:faults -- kills         only the files whose names have this word; other rows of the table stay as they are
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

const date = new Date().toISOString().slice(0, 10);
const rowOf = ({ fault, what, tries, failures }: TrialRecord, seed: string) =>
  `| ${fault} | ${what} | ${tries.toLocaleString('en-US')} | ${failures} | ${date}, seed ${seed}, Node ${process.versions.node}, ${cpus().length} processors |`;
/** What a row is about: its first two columns. */
const subjectOf = (row: string) => row.split('|').slice(1, 3).join('|');

/** The table with the new rows in the place of those about the same. */
function table(old: readonly string[], made: readonly string[]): string {
  const subjects = new Set(made.map(subjectOf));
  const rows = [...old.filter((row) => !subjects.has(subjectOf(row))), ...made].sort();
  const sum = (column: number) => rows.reduce((total, row) => total + Number(row.split('|')[column].replaceAll(',', '')), 0).toLocaleString('en-US');
  return ['| fault | tried on | tries | failures | when |', '|---|---|---:|---:|---|', ...rows, `| all | | ${sum(3)} | ${sum(4)} | |`].join('\n');
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
if (!existsSync(records)) throw new Error('no trial wrote a record');
const made = readFileSync(records, 'utf8')
  .trim()
  .split('\n')
  .map((line) => rowOf(JSON.parse(line), seed));
const page = readFileSync(PAGE, 'utf8');
const [begin, end] = [page.indexOf(BEGIN) + BEGIN.length, page.indexOf(END)];
const old = page
  .slice(begin, end)
  .split('\n')
  .filter((line) => line.startsWith('| ') && !/^\| (fault|all) \|/.test(line));
const text = table(old, made);
console.log(`\n${text}`);
writeFileSync(PAGE, `${page.slice(0, begin)}\n${text}\n${page.slice(end)}`);
rmSync(scratch, { recursive: true, force: true });
process.exit(status ?? 1);
