/** `glimpse plot`: a run's log as curves on one self-contained page (or one SVG). */
import { join } from 'node:path';
import { z } from 'zod';
import { writeFileAtomic } from '../data/atomic_file.ts';
import { openFile } from '../data/file_source.ts';
import { problemOf } from '../data/validation.ts';
import { FileError } from '../errors.ts';
import { chartPage, chartSvg, type Series } from '../plot/chart.ts';
import type { PlotOptions } from './commands/plot.ts';
import { result, say } from './output.ts';

const Rollout = z.object({
  reward: z.number(),
  baseline: z.number(),
  entropy: z.number(),
  meanLength: z.number(),
  endInFunctionWord: z.number(),
  distinctWords: z.number(),
});
const Step = z.object({
  kind: z.literal('step'),
  epoch: z.number(),
  batch: z.number(),
  batches: z.number(),
  lossPerToken: z.number(),
  gradNorm: z.number(),
  rollout: Rollout.optional(),
});
const Epoch = z.object({
  kind: z.literal('epoch'),
  epoch: z.number(),
  trainLoss: z.number(),
  valLoss: z.number().nullable(),
  cider: z.number().nullable(),
  rate: z.number(),
});
const Line = z.discriminatedUnion('kind', [Step, Epoch]);

/** As it stands: after a loss of power, a log may end in zeros. */
function textOf(path: string): string {
  const file = openFile(path);
  try {
    return new TextDecoder().decode(file.read(0, file.size));
  } finally {
    file.close();
  }
}

/** The entries of a log. Where a run was killed, or the disk was full, the last line may be half: `onCut` is told its number. */
export function readLog(path: string, onCut: (line: number) => void): z.infer<typeof Line>[] {
  const lines = textOf(path).split('\n');
  return lines.flatMap((line, i) => {
    if (line === '') return [];
    let json: unknown;
    try {
      json = JSON.parse(line);
      return [Line.parse(json)];
    } catch (error) {
      // Only what no line feed ends can be half; a whole value of JSON is not.
      if (i === lines.length - 1 && json === undefined) {
        onCut(i + 1);
        return [];
      }
      throw new FileError(path, `line ${i + 1} is no entry of a training log: ${problemOf(error, json ?? line).replace(/^line 1, /, '')}`);
    }
  });
}

/** A running mean, so that single batches do not hide the course. */
function smooth(points: readonly (readonly [number, number])[], window: number): [number, number][] {
  return points.map(([x], i) => {
    const part = points.slice(Math.max(0, i - window + 1), i + 1);
    return [x, part.reduce((sum, [, y]) => sum + y, 0) / part.length];
  });
}

/** Joins the logs of runs that follow one another. Epochs count on. What an earlier run logged after its last whole epoch is left out. */
function joined(runs: readonly string[], onCut: (path: string, line: number) => void): z.infer<typeof Line>[] {
  let before = 0;
  return runs.flatMap((run, i) => {
    const path = join(run, 'log.jsonl');
    const log = readLog(path, (line) => onCut(path, line));
    const whole = log.reduce((most, line) => (line.kind === 'epoch' ? Math.max(most, line.epoch) : most), 0);
    const kept = i + 1 < runs.length ? log.filter(({ epoch }) => epoch <= whole) : log;
    const shifted = kept.map((line) => ({ ...line, epoch: line.epoch + before }));
    before += whole;
    return shifted;
  });
}

export async function plot(o: PlotOptions, runs: string[]): Promise<number> {
  const run = runs[runs.length - 1];
  const cut: { log: string; line: number }[] = [];
  const log = joined(runs, (path, line) => {
    cut.push({ log: path, line });
    say(o, `${path}: line ${line}, the last one, is cut off and not drawn`);
  });
  const steps = log.filter((line) => line.kind === 'step');
  const epochs = log.filter((line) => line.kind === 'epoch');
  if (steps.length === 0) throw new FileError(join(run, 'log.jsonl'), 'holds no training step yet');
  const at = (step: z.infer<typeof Step>) => step.epoch - 1 + step.batch / step.batches;
  const points = (f: (step: z.infer<typeof Step>) => number) => steps.map((step) => [at(step), f(step)] as const);
  const perEpoch = (f: (epoch: z.infer<typeof Epoch>) => number | null) =>
    epochs.flatMap((epoch) => {
      const value = f(epoch);
      return value === null ? [] : [[epoch.epoch, value] as const];
    });
  const window = Math.max(1, Math.round(steps.length / 60));
  const chart = (title: string, yLabel: string, series: Series[]) => chartSvg({ title, xLabel: 'epoch', yLabel, series });
  const course = (name: string, f: (step: z.infer<typeof Step>) => number): Series => ({
    name: `${name}, mean of ${window} batches`,
    points: smooth(points(f), window),
  });
  const ofRollout = (name: string, key: keyof z.infer<typeof Rollout>): Series => course(name, ({ rollout }) => rollout?.[key] ?? 0);
  const first = steps.some(({ rollout }) => rollout)
    ? [
        chart('Reward of sampled captions', 'CIDEr-D', [ofRollout('reward', 'reward'), ofRollout('baseline', 'baseline')]),
        chart('Entropy of the samples', 'nats per token', [ofRollout('−log p of the sampled tokens', 'entropy')]),
        chart('Length of sampled captions', 'words', [ofRollout('length', 'meanLength')]),
        chart('Sampled captions that end in a function word', 'share', [ofRollout('share', 'endInFunctionWord')]),
        chart('Distinct words in a mini-batch of sampled captions', 'words', [ofRollout('words', 'distinctWords')]),
      ]
    : [chart('Loss', 'nats per token', [course('training', (step) => step.lossPerToken), { name: 'validation', points: perEpoch((epoch) => epoch.valLoss) }])];
  const charts = [
    ...first,
    chart('Gradient norm, before clipping', 'norm', [course('norm', (step) => step.gradNorm)]),
    ...(epochs.length > 1
      ? [
          chart('CIDEr-D of greedy captions, validation', 'CIDEr-D', [{ name: 'CIDEr-D', points: perEpoch((epoch) => epoch.cider) }]),
          chart('Learning rate', 'rate', [{ name: 'rate', points: perEpoch((epoch) => epoch.rate) }]),
        ]
      : []),
  ];
  const out = o.out ?? join(run, 'curves.html');
  const last = steps[steps.length - 1];
  const lead = `${steps.length} batches in ${last.epoch} epochs; ${last.rollout ? `last mean reward ${last.rollout.reward.toFixed(3)}` : `last loss ${last.lossPerToken.toFixed(3)} nats per token`}.`;
  writeFileAtomic(out, [out.endsWith('.svg') ? charts[0] : chartPage(`Training of ${runs.join(', ')}`, lead, charts)]);
  result(o, { out, steps: steps.length, epochs: epochs.length, cut }, () => [`${out}: ${lead}`]);
  return 0;
}
