/** What the engine can be asked to do. Jobs that few visitors want bring their code when they are first asked for. */
import { checkOp } from '../../src/autograd/check.ts';
import { OPS } from '../../src/autograd/ops/index.ts';
import { bytesAsSource } from '../../src/data/bytes.ts';
import { parseSafetensors } from '../../src/data/safetensors_format.ts';
import { GlimpseError, UsageError } from '../../src/errors.ts';
import type { Gpu } from '../../src/gpu/gpu.ts';
import { tuningOf } from '../../src/kernels/tuning.ts';
import { BATCH, DEMO_FORMAT, DemoModel, runDemo } from '../../src/model/demo/demo.ts';
import { makeScene, unseenScene } from '../../src/model/demo/scenes.ts';
import type { NamedArray } from '../../src/nn/parameters.ts';
import type { AdapterFacts, JobName, Jobs, WhichModel } from './protocol.ts';
import type { JobContext } from './worker.ts';

type Job<K extends JobName> = (input: Jobs[K]['input'], context: JobContext<K>) => Promise<Jobs[K]['result']>;

const LIMITS = ['maxBufferSize', 'maxStorageBufferBindingSize', 'maxStorageBuffersPerShaderStage', 'maxComputeWorkgroupStorageSize'] as const;

function factsOf(gpu: Gpu, guaranteed: boolean): AdapterFacts {
  const { limits, features } = gpu.device;
  return {
    description: gpu.description,
    features: [...features].sort(),
    limits: Object.fromEntries(LIMITS.map((name) => [name, limits[name]])),
    ...{ tuning: tuningOf(gpu).source, guaranteed },
  };
}

/** Weights of the captioner of scenes: those that come with the site, and those that were trained here. */
const weights: Partial<Record<WhichModel, Promise<ReadonlyMap<string, NamedArray>>>> = {};
/** The model that was used last, on its device. */
let model: { which: WhichModel; gpu: Gpu; made: DemoModel } | null = null;

async function bundledWeights(): Promise<ReadonlyMap<string, NamedArray>> {
  const answer = await fetch(new URL('../data/scenes.safetensors', import.meta.url));
  if (!answer.ok) throw new GlimpseError(`the weights of the captioner of scenes cannot be loaded: ${answer.status} ${answer.statusText}`);
  const { metadata, tensors } = parseSafetensors(bytesAsSource('scenes.safetensors', new Uint8Array(await answer.arrayBuffer())));
  if (metadata.format !== DEMO_FORMAT) throw new GlimpseError(`scenes.safetensors holds "${metadata.format}", not "${DEMO_FORMAT}"`);
  return tensors as ReadonlyMap<string, NamedArray>;
}

async function modelOf(gpu: Gpu, which: WhichModel): Promise<DemoModel> {
  if (model?.which === which && model.gpu === gpu) return model.made;
  if (which === 'bundled') weights.bundled ??= bundledWeights();
  const loading = weights[which];
  if (!loading) throw new UsageError('no model was trained in this tab yet');
  let values: ReadonlyMap<string, NamedArray>;
  try {
    values = await loading;
  } catch (error) {
    delete weights[which]; // it may load another time
    throw error;
  }
  if (model && !model.gpu.isLost) model.made.dispose();
  const made = new DemoModel(0);
  made.load(values);
  model = { which, gpu, made };
  return made;
}

const open: Job<'open'> = async (_none, context) => factsOf(await context.gpu(), context.guaranteed);

const train: Job<'train'> = async (o, context) => {
  const gpu = await context.gpu();
  const made = new DemoModel(o.seed);
  try {
    const words = Array.from({ length: 256 }, (_, i) => makeScene(o.seed, i % o.scenes).caption.length + 1);
    const perBatch = (BATCH * words.reduce((sum, count) => sum + count, 0)) / words.length;
    let [since, counted] = [performance.now(), 0];
    let rate = 0;
    const trained = await runDemo(made, {
      ...o,
      onStep: async (done, total, loss) => {
        counted++;
        const seconds = (performance.now() - since) / 1000;
        if (seconds > 0.5) {
          rate = (perBatch * counted) / seconds;
          [since, counted] = [performance.now(), 0];
        }
        context.tell({ kind: 'step', done, total, loss, wordsPerSecond: rate, secondsLeft: rate > 0 ? ((total - done) * perBatch) / rate : null });
        const before = performance.now();
        await context.turn();
        since += performance.now() - before; // a pause is no training
      },
      onEpoch: (epoch, loss, exact, seconds, described) => context.tell({ kind: 'epoch', epoch, loss, exact, seconds, described: described.slice(0, 8) }),
    });
    weights.trained = Promise.resolve(await made.weights());
    if (model?.which === 'trained') {
      model.made.dispose();
      model = null;
    }
    return { report: trained.report, described: trained.described.slice(0, 12) };
  } finally {
    if (!gpu.isLost) made.dispose();
  }
};

const describe: Job<'describe'> = async ({ model: which, seed, first, count }, context) => {
  const made = await modelOf(await context.gpu(), which);
  return made.describe(Array.from({ length: count }, (_, i) => unseenScene(seed, first + i)));
};

const check: Job<'check'> = async ({ op: name }, context) => {
  await context.gpu();
  const op = OPS.find((each) => each.name === name);
  if (!op) throw new UsageError(`there is no op called "${name}"`);
  return checkOp(op);
};

const selftest: Job<'selftest'> = async (_none, context) => {
  const gpu = await context.gpu();
  const failed: Jobs['check']['result'] = [];
  let [passed, skipped] = [0, 0];
  for (const [i, op] of OPS.entries()) {
    context.tell({ op: op.name, done: i, total: OPS.length });
    for (const result of await checkOp(op)) {
      if (result.status === 'failed') failed.push(result);
      else if (result.status === 'passed') passed++;
      else skipped++;
    }
    await context.turn();
    if ((await context.gpu()) !== gpu) throw new GlimpseError('the device was opened anew meanwhile; run the self-test again');
  }
  return { passed, skipped, failed };
};

export const JOBS: { [K in JobName]: Job<K> } = {
  ...{ open, train, describe, check, selftest },
  table: async () => (await import('./jobs/table.ts')).table(),
  trace: async ({ model: which, seed, scene }, context) => {
    const gpu = await context.gpu();
    return (await import('./jobs/trace.ts')).traceScene(gpu, await modelOf(gpu, which), unseenScene(seed, scene));
  },
  bench: async (input, context) => (await import('./jobs/bench.ts')).bench(await context.gpu(), input, context),
  loadRun: async (files, context) => (await import('./jobs/caption.ts')).loadRun(await context.gpu(), files, context),
  captionPicture: async (input, context) => (await import('./jobs/caption.ts')).captionPicture(await context.gpu(), input),
  judge: async ({ family, text }, context) =>
    (await import('../../src/study/exercises.ts')).judgePart(await context.gpu(), { family, file: text.name }, text.name, text.source),
  tune: async (_none, context) => (await import('./jobs/tune.ts')).tuneHere(await context.gpu(), context),
};
