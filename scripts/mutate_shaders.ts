/**
 * The mutation test of the self-test: puts one small fault at a time into a copy of the shaders, runs `glimpse selftest` on that
 * copy, and counts the faults that it notices. A fault that no case notices shows a hole in the cases of src/autograd/ops.
 * The faults are the rows of mutations.ts; docs/mutation.md says how to read the result.
 *
 *   npm run mutation -- [--only TEXT] [--adapter NAME] [--jobs COUNT] [--json] [--quiet]
 *
 * Exit code 1: fewer than 95 % are noticed, or one that is not has no reason in its row, or a row does not fit the shaders.
 */
import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, Option } from 'commander';
import { type CommonOptions, duration, progress, result, say } from '../src/cli/output.ts';
import { GlimpseError, messageOf, UsageError } from '../src/errors.ts';
import { whole } from '../src/options.ts';
import { Random } from '../src/random.ts';
import { MUTATIONS, type Mutation } from './mutations.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
/** What the self-test needs of the project; node_modules is linked. */
const COPIED = ['src', 'bin', 'package.json', 'tsconfig.json'];
const WANTED_SHARE = 0.95;
/** A fault may make a loop endless; the slowest op takes half a minute on two cores. */
const LONGEST_MS = 10 * 60_000;

interface Options extends CommonOptions {
  only?: string;
  jobs: number;
}

/** The part of `glimpse selftest --json` that is read here. */
interface SelftestReport {
  adapter: string;
  cases: { op: string; version: string; case: string; status: 'passed' | 'failed' | 'skipped'; maxAbs: number | null; reason?: string }[];
}

interface Outcome {
  mutation: Mutation;
  /** The first case that noticed; null when none did. */
  caughtBy: string | null;
  seconds: number;
}

const idOf = ({ shader, name }: Mutation): string => `${shader}: ${name}`;
const shaderPath = (root: string, shader: string): string => join(root, 'src', 'kernels', 'wgsl', `${shader}.wgsl`);

/** The shader with the fault, or a GlimpseError that says why the row does not fit it. */
export function mutated(root: string, mutation: Mutation): string {
  const { shader, find, replace } = mutation;
  const path = shaderPath(root, shader);
  if (!existsSync(path)) throw new GlimpseError(`${idOf(mutation)}: there is no shader ${path}`);
  const parts = readFileSync(path, 'utf8').split(find);
  if (parts.length !== 2) throw new GlimpseError(`${idOf(mutation)}: expected its text once in the shader, found it ${parts.length - 1} times:\n${find}`);
  if (find === replace) throw new GlimpseError(`${idOf(mutation)}: changes nothing`);
  return parts.join(replace);
}

/** Every fault of the rows themselves, one line each. */
export function staleRows(root: string, mutations: readonly Mutation[]): string[] {
  const seen = new Set<string>();
  return mutations.flatMap((mutation) => {
    const id = idOf(mutation);
    if (seen.has(id)) return [`${id}: two rows have this name`];
    seen.add(id);
    try {
      mutated(root, mutation);
      return [];
    } catch (error) {
      return [messageOf(error)];
    }
  });
}

function copyProject(root: string): string {
  const copy = mkdtempSync(join(tmpdir(), 'glimpse-mutation-'));
  for (const name of COPIED) cpSync(join(root, name), join(copy, name), { recursive: true });
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'), 'dir');
  return copy;
}

/** Runs the self-test of a copy of the project. Throws when it gives no report. */
function selftest(copy: string, ops: readonly string[], adapter: string): Promise<SelftestReport> {
  const args = [join(copy, 'bin', 'glimpse.js'), 'selftest', '--op', ...ops, '--adapter', adapter, '--json', '--quiet'];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd: copy, stdio: ['ignore', 'pipe', 'pipe'], timeout: LONGEST_MS });
    let [out, err] = ['', ''];
    child.stdout.on('data', (part) => {
      out += part;
    });
    child.stderr.on('data', (part) => {
      err += part;
    });
    child.on('error', reject);
    child.on('close', (code, signal) => {
      const fail = (problem: string) => reject(new GlimpseError(`the self-test of ${ops.join(', ')} ${problem}${err ? `\n${err.trimEnd()}` : ''}`));
      if (code !== 0 && code !== 1) return fail(signal ? `was stopped by ${signal}` : `ended with code ${code}`);
      let report: SelftestReport;
      try {
        report = JSON.parse(out);
      } catch {
        return fail(`ended with code ${code} and without a report`);
      }
      if ((code === 1) !== report.cases.some(({ status }) => status === 'failed')) return fail(`ended with code ${code}, which its cases do not bear out`);
      resolve(report);
    });
  });
}

/** Runs `work` on every item, as many at a time as there are copies; each copy serves one item at a time. */
async function onCopies<T>(copies: readonly string[], items: readonly T[], work: (copy: string, item: T) => Promise<void>): Promise<void> {
  const waiting = [...items];
  await Promise.all(
    copies.map(async (copy) => {
      for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) await work(copy, item);
    }),
  );
}

async function outcomeOf(copy: string, mutation: Mutation, adapter: string): Promise<Outcome> {
  const path = shaderPath(copy, mutation.shader);
  const sound = readFileSync(path, 'utf8');
  const started = performance.now();
  writeFileSync(path, mutated(copy, mutation));
  try {
    const { cases } = await selftest(copy, mutation.ops, adapter);
    const failed = cases.filter(({ status }) => status === 'failed');
    // A case that threw compared nothing: the fault must run and give wrong numbers.
    const thrown = failed.find(({ maxAbs }) => maxAbs === 0);
    if (thrown) throw new GlimpseError(`${idOf(mutation)}: does not run: ${thrown.reason}`);
    const [first] = failed;
    return { mutation, caughtBy: first ? `${first.op} ${first.version}, ${first.case}` : null, seconds: (performance.now() - started) / 1000 };
  } finally {
    writeFileSync(path, sound);
  }
}

async function run(options: Options): Promise<number> {
  const started = performance.now();
  const adapter = options.adapter ?? 'lavapipe';
  const { only = '' } = options;
  const chosen = MUTATIONS.filter((mutation) => idOf(mutation).includes(only));
  if (chosen.length === 0)
    throw new UsageError(`no mutation has "${only}" in its name; shaders are ${[...new Set(MUTATIONS.map((m) => m.shader))].join(', ')}`);
  const stale = staleRows(ROOT, MUTATIONS);
  if (stale.length > 0) throw new GlimpseError(`scripts/mutations.ts does not fit the shaders:\n${stale.join('\n')}`);

  const jobs = Math.min(options.jobs, chosen.length);
  const copies = Array.from({ length: jobs }, () => copyProject(ROOT));
  const clean = () => {
    for (const copy of copies) rmSync(copy, { recursive: true, force: true });
  };
  process.once('exit', clean);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

  // First without faults: a case that fails by itself would catch everything.
  const ops = [...new Set(chosen.flatMap((mutation) => mutation.ops))];
  let sound = 0;
  let description = '';
  const before = progress(options, 'without faults', ops.length, 'ops');
  await onCopies(copies, ops, async (copy, op) => {
    const report = await selftest(copy, [op], adapter);
    const failed = report.cases.filter(({ status }) => status === 'failed');
    if (failed.length > 0) throw new GlimpseError(`the self-test of ${op} fails without a fault: ${failed.map((c) => `${c.version}, ${c.case}`).join('; ')}`);
    if (!description) say(options, `adapter: ${report.adapter}`);
    description = report.adapter;
    before.update(++sound, op);
  });
  before.stop();

  const outcomes: Outcome[] = [];
  const broken: string[] = [];
  const bar = progress(options, 'mutations', chosen.length, 'mutations');
  await onCopies(
    copies,
    new Random(1, 'order of mutations').permutation(chosen.length).map((i) => chosen[i]), // mixed, so that the time left is honest
    async (copy, mutation) => {
      try {
        outcomes.push(await outcomeOf(copy, mutation, adapter));
      } catch (error) {
        broken.push(messageOf(error));
      }
      bar.update(outcomes.length + broken.length, idOf(mutation));
    },
  );
  bar.stop();
  if (broken.length > 0) throw new GlimpseError(`faults that cannot be judged:\n${broken.join('\n')}`);

  outcomes.sort((a, b) => chosen.indexOf(a.mutation) - chosen.indexOf(b.mutation));
  const survivors = outcomes.filter(({ caughtBy }) => caughtBy === null);
  const caught = outcomes.length - survivors.length;
  const unexplained = survivors.filter(({ mutation }) => !mutation.survives);
  const explainedInVain = outcomes.filter(({ mutation, caughtBy }) => mutation.survives && caughtBy !== null);
  const seconds = (performance.now() - started) / 1000;
  const rows = outcomes.map(({ mutation: { shader, name, survives }, ...rest }) => ({ shader, name, ...rest, survives }));
  result(options, { adapter: description, total: outcomes.length, caught, seconds, mutations: rows }, () => {
    const percent = ((100 * caught) / outcomes.length).toFixed(1);
    return [
      ...survivors.map(
        ({ mutation }) => `SURVIVED ${idOf(mutation)}\n    ${mutation.survives ?? 'its row gives no reason: a case is missing in src/autograd/ops'}`,
      ),
      ...explainedInVain.map(({ mutation, caughtBy }) => `caught here, though its row says why it survives: ${idOf(mutation)} (${caughtBy})`),
      description,
      `${caught} of ${outcomes.length} caught (${percent} %) in ${duration(seconds)}, ${survivors.length} survived`,
    ].join('\n');
  });
  return caught < WANTED_SHARE * outcomes.length || unexplained.length > 0 ? 1 : 0;
}

async function main(): Promise<void> {
  const program = new Command('mutation')
    .description('Put small faults into copies of the shaders and count those that the self-test notices')
    .option('--only <text>', 'only faults with this text in "shader: name"')
    .addOption(new Option('--adapter <name>', 'as for glimpse selftest').default(undefined, 'lavapipe'))
    .option('--jobs <count>', 'self-tests at a time', (text) => whole('count', { atLeast: 1 }).parse(text, '--jobs'), Math.min(4, availableParallelism()))
    .option('--json', 'JSON on stdout')
    .option('--quiet', 'only the result and errors')
    .parse();
  try {
    process.exitCode = await run(program.opts<Options>());
  } catch (error) {
    process.stderr.write(`${error instanceof GlimpseError ? error.message : (error as Error).stack}\n`);
    process.exitCode = error instanceof GlimpseError ? error.exitCode : 1;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
