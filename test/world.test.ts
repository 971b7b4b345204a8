/**
 * Training by several processes on a real MPI: the same bits as one process, under each way to train; errors, signals and dead or
 * stopped processes. Without Open MPI or the package that calls it (`npm run mpi`), all of it is skipped aloud.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { isAlive } from '../src/data/atomic_file.ts';
import { bytesAsSource } from '../src/data/bytes.ts';
import { parseSafetensors } from '../src/data/safetensors_format.ts';
import { captionerRun } from './captioner_run.ts';
import { glimpse, type Outcome, program, temporaryFolder } from './support.ts';

const folder = temporaryFolder();
const made = captionerRun(folder);

/** Open MPI's mpirun, as a command that also root and a machine of few cores may use. */
const MPIRUN = ['mpirun.openmpi', 'mpirun'].find((name) => {
  try {
    return execFileSync(name, ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).includes('Open MPI');
  } catch {
    return false;
  }
});
const ENVIRONMENT = { ...process.env, OMPI_ALLOW_RUN_AS_ROOT: '1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1', OMPI_MCA_rmaps_base_oversubscribe: '1' };
const missing = MPIRUN ? (existsSync(join(import.meta.dirname, '../mpi/node_modules/koffi')) ? null : 'npm run mpi was not run') : 'Open MPI is not installed';
if (missing) console.warn(`training by several processes is not tested: ${missing}`);

/** Network namespaces need a superuser whom the kernel lets make them. */
const noNamespaces = (() => {
  try {
    execFileSync('unshare', ['--net', '--uts', 'ip', 'link'], { stdio: 'ignore' });
    return process.getuid?.() !== 0;
  } catch {
    return true;
  }
})();
if (!missing && noNamespaces) console.warn('two hosts are not tested: this machine allows no network namespaces');

interface Started {
  child: ChildProcess;
  said(): string;
  ended: Promise<Outcome>;
  /** Resolves when the text was said. */
  until(text: RegExp): Promise<RegExpExecArray>;
}

function start(processes: number, args: readonly string[], environment: Record<string, string> = {}): Started {
  const child = spawn(MPIRUN as string, ['--bind-to', 'none', '-np', String(processes), process.execPath, program, ...args], {
    env: { ...ENVIRONMENT, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const outcome: Outcome = { code: -1, stdout: '', stderr: '' };
  child.stdout.on('data', (text) => {
    outcome.stdout += text;
  });
  child.stderr.on('data', (text) => {
    outcome.stderr += text;
  });
  let isOver = false;
  const ended = new Promise<Outcome>((resolve) =>
    child.on('close', (code) => {
      isOver = true;
      resolve({ ...outcome, code: code ?? -1 });
    }),
  );
  const until = async (text: RegExp) => {
    for (;;) {
      const found = text.exec(outcome.stderr);
      if (found) return found;
      if (isOver) throw new Error(`it ended before it said ${text}: ${outcome.stderr}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  return { child, ended, until, said: () => outcome.stderr };
}

const inWorld = (processes: number, args: readonly string[]) => start(processes, args).ended;

/** The numbers of a run's checkpoint, by name, as bytes. */
function numbersOf(run: string, epoch: number): Map<string, Buffer> {
  const path = join(run, 'checkpoints', `epoch-${String(epoch).padStart(3, '0')}.safetensors`);
  const { tensors } = parseSafetensors(bytesAsSource(path, readFileSync(path)));
  return new Map([...tensors].map(([name, { data }]) => [name, Buffer.from(data.buffer, data.byteOffset, data.byteLength)]));
}

function expectSameBits(a: string, b: string, epoch: number): void {
  const [one, other] = [numbersOf(a, epoch), numbersOf(b, epoch)];
  expect([...one.keys()].sort()).toEqual([...other.keys()].sort());
  expect([...one].filter(([name, bytes]) => !other.get(name)?.equals(bytes)).map(([name]) => name)).toEqual([]);
}

const logOf = (run: string): Record<string, unknown>[] =>
  readFileSync(join(run, 'log.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
const losses = (run: string) => logOf(run).flatMap(({ kind, lossPerToken, valLoss, cider }) => [kind === 'step' ? lossPerToken : [valLoss, cider]]);

/** What draws random numbers, or decides by the validation. */
const DRAWN = ['--dropout', '0.3', '--attention', 'hard', '--patience', '9'];

/** Micro-batches of two captions, four of them an update. An epoch has 14 micro-batches, so its last update has two. */
const SHARED = ['--batch-images', '2', '--captions', '1', '--accumulate', '4', '--validation', '3'];

describe.skipIf(missing)('several processes', () => {
  async function args(name: string, ...more: string[]): Promise<{ out: string; args: string[] }> {
    const { trainArgs } = await made.features();
    const out = join(folder, name);
    return { out, args: [...trainArgs, ...SHARED, '--out', out, ...more] };
  }

  /** A run of one epoch by one process, made once. */
  let alone: Promise<string> | null = null;
  const madeAlone = () => {
    alone ??= (async () => {
      const { out, args: all } = await args('alone', '--epochs', '1');
      expect((await glimpse(...all)).code).toBe(0);
      return out;
    })();
    return alone;
  };

  test('2 of them, one of which is killed, resumed by one: the bits of one process that was never stopped', async () => {
    const whole = await args('whole', '--epochs', '2', ...DRAWN);
    expect((await glimpse(...whole.args)).code).toBe(0);
    const killed = await args('killed', ...DRAWN);
    const world = start(2, [...killed.args, '--epochs', '50', '--save-every', '1']);
    const [, pid] = await world.until(/rank 1 \(process (\d+) on /);
    const [, writer] = await world.until(/rank 0 \(process (\d+) on /);
    await world.until(/epoch 1:/);
    process.kill(Number(pid), 'SIGKILL');
    const dead = Date.now();
    expect((await world.ended).code).not.toBe(0);
    while (isAlive(Number(writer))) await new Promise((resolve) => setTimeout(resolve, 50)); // the launcher may end a moment before it
    expect(Date.now() - dead).toBeLessThan(20_000);
    expect(readdirSync(join(killed.out, 'checkpoints')).filter((name) => name.startsWith('epoch'))).toContain('epoch-001.safetensors');
    const resumed = await glimpse(...killed.args, '--epochs', '2', '--resume');
    expect(resumed).toMatchObject({ code: 0 });
    expectSameBits(whole.out, killed.out, 2);
    expect(losses(killed.out)).toEqual(losses(whole.out));
  });

  test('a signal to one of them saves once and ends all; 4 go on, bit for bit', async () => {
    const whole = await args('whole2', '--epochs', '2', '--gradient-precision', 'bf16');
    expect((await glimpse(...whole.args)).code).toBe(0);
    const stopped = await args('stopped', '--epochs', '2', '--gradient-precision', 'bf16');
    const world = start(2, stopped.args);
    const [, pid] = await world.until(/rank 1 \(process (\d+) on /);
    await world.until(/epoch 1:/);
    process.kill(Number(pid), 'SIGTERM');
    const outcome = await world.ended;
    if (outcome.code !== 0) expect(outcome.stdout).toMatch(/not finished, SIGTERM stopped it/); // else it came after the last update
    expect((await inWorld(4, [...stopped.args, '--resume'])).code).toBe(0);
    expectSameBits(whole.out, stopped.out, 2);
  });

  test('self-critical training: samples are drawn by place, rewards are gathered', async () => {
    const { run } = await made.trained();
    const scst = ['--start', run, '--objective', 'scst', '--samples', '2', '--epochs', '1', '--batch-images', '4', '--accumulate', '2', '--validation', '3'];
    const { trainArgs } = await made.features();
    const base = trainArgs.slice(0, 5);
    const [single, together] = [join(folder, 'scst-single'), join(folder, 'scst-together')];
    expect((await glimpse(...base, ...scst, '--out', single)).code).toBe(0);
    expect((await inWorld(2, [...base, ...scst, '--out', together])).code).toBe(0);
    expectSameBits(single, together, 1);
    const rewards = (path: string) => logOf(path).flatMap(({ rollout }) => (rollout ? [rollout] : []));
    expect(rewards(together)).toEqual(rewards(single));
  });

  test('the sum of MPI_Allreduce differs in the last bits at most, and the exchange is timed', async () => {
    const { out, args: all } = await args('fast', '--epochs', '1');
    expect((await inWorld(2, [...all, '--reduce', 'fast'])).code).toBe(0);
    const [a, b] = [out, await madeAlone()].map((run) => logOf(run).find(({ kind }) => kind === 'epoch')?.valLoss as number);
    expect(Math.abs(a / b - 1)).toBeLessThan(1e-5);
    const exchange = logOf(out).flatMap(({ kind, exchange: times }) => (kind === 'step' && times ? [times] : []));
    expect(exchange).toHaveLength(4); // 14 micro-batches
    expect(Object.values(exchange[0] as Record<string, number>).every((ms) => ms >= 0 && ms < 1e6)).toBe(true);
  });

  test.skipIf(noNamespaces)('two hosts, that are network namespaces of this machine: the same bits', async () => {
    const { out, args: all } = await args('two-hosts', '--epochs', '1');
    const { stderr } = await promisify(execFile)('sh', [join(import.meta.dirname, '../scripts/two_hosts.sh'), process.execPath, program, ...all]);
    expect(stderr).toMatch(/rank 0 \(process \d+ on node-1\)[\s\S]*rank 1 \(process \d+ on node-2\)/);
    expectSameBits(await madeAlone(), out, 1);
  });

  test('a process whose device rounds differently takes over the weights of the first one', async () => {
    const { args: all, out } = await args('drift', '--epochs', '1');
    const shader = join(folder, 'adam.wgsl');
    const own = readFileSync(join(import.meta.dirname, '../src/kernels/wgsl/adam.wgsl'), 'utf8');
    const update = 'params.rate / params.correction1 * first / (sqrt(second / params.correction2) + params.eps)';
    expect(own).toContain(update);
    writeFileSync(shader, own.replace(update, `1.000001 * ${update}`));
    const outcome = await start(1, [...all, ':', '-np', '1', process.execPath, program, ...all, '--shader', `adam=${shader}`]).ended;
    expect(outcome.code).toBe(0);
    expect(outcome.stderr.match(/the weights of 1 of 2 processes differ from those of the first one \(first rank 1 /g)).toHaveLength(1);
    const [a, b] = [out, await madeAlone()].map((run) => logOf(run).find(({ kind }) => kind === 'epoch')?.valLoss as number);
    expect(Math.abs(a / b - 1)).toBeLessThan(1e-3);
  });

  test('a stopped process is named, and trains on when it is continued', async () => {
    const { args: all } = await args('frozen', '--epochs', '2');
    const world = start(2, all, { GLIMPSE_SILENT_SECONDS: '3' });
    const [, pid] = await world.until(/rank 1 \(process (\d+) on /);
    await world.until(/epoch 1:/);
    process.kill(Number(pid), 'SIGSTOP');
    await world.until(new RegExp(`rank 1 \\(process ${pid} on .*\\) has given no sign of life for \\d+ s`));
    process.kill(Number(pid), 'SIGCONT');
    expect((await world.ended).code).toBe(0);
    expect(world.said()).toMatch(/rank 1 .* answers again/);
  });

  test('work that cannot be shared out evenly, other options and other files are told once, by name', async () => {
    const { args: all } = await args('refused', '--epochs', '1');
    const uneven = await inWorld(3, all);
    expect(uneven.code).toBe(2);
    expect(uneven.stderr.match(/3 processes cannot share out updates of 4 micro-batches evenly: give --accumulate 6/g)).toHaveLength(1);
    const two = (one: string[], other: string[]) => start(1, [...one, ':', '-np', '1', process.execPath, program, ...other]).ended;
    const seeds = await two([...all, '--seed', '1'], [...all, '--seed', '2']);
    expect(seeds.stderr).toMatch(/would not train the same run\s+rank 1 \(process \d+ on .*\) has another seed \(2\)\s+rank 0 .* has seed 1/);
    const gone = await two(
      all,
      all.map((arg) => (arg.endsWith('dataset.json') ? join(folder, 'gone.json') : arg)),
    );
    expect(gone.code).toBe(1);
    expect(gone.stderr.match(/glimpse: rank 1 .*gone\.json: no such file/g)).toHaveLength(1);
  });

  test('a library that is missing, or of another kind than the launcher, is told', async () => {
    const { args: all } = await args('no-library', '--epochs', '1');
    const none = await start(2, all, { GLIMPSE_MPI: '/nowhere/libmpi.so' }).ended;
    expect(none.code).toBe(1);
    expect(none.stderr).toMatch(/Open MPI started this process as one of 2, but no MPI library can be loaded[\s\S]*\/nowhere\/libmpi\.so: /);
  });
});

test('options of several processes are refused for one', async () => {
  const { trainArgs } = await made.features();
  expect(await glimpse(...trainArgs, '--out', join(folder, 'one'), '--reduce', 'fast')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('--reduce is for several processes'),
  });
  expect(await glimpse(...trainArgs, '--out', join(folder, 'one'), '--adapter', 'lavapipe,swiftshader')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('2 adapters for one process'),
  });
});
