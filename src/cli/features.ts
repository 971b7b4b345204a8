/** `glimpse features`: the encoder over all pictures of a dataset. */
import { join } from 'node:path';
import { readDataset } from '../data/captions.ts';
import type { EncoderIdentity } from '../data/encoder_identity.ts';
import { BadFeatures, FeatureWriter, mergeStores } from '../data/feature_store.ts';
import { nonFiniteFault } from '../data/finite.ts';
import { pictureOf } from '../data/picture_places.ts';
import { FileError, GlimpseError, UsageError } from '../errors.ts';
import { ImageEncoder, openEncoderOf } from '../model/encoder/encoder.ts';
import type { FeaturesOptions } from './commands/features.ts';
import { type CommonOptions, duration, progress, result, say } from './output.ts';
import { checkpointAt, withGpu } from './session.ts';
import { endRequest } from './signals.ts';

function openEncoder(o: FeaturesOptions): Promise<ImageEncoder> {
  if (o.model) return openEncoderOf(checkpointAt(o, o.model), o.encoder);
  return ImageEncoder.open(o.encoder as string, {
    ...(o.preprocess ? { preprocessing: o.preprocess } : {}),
    ...(o.grid ? { grid: Number(o.grid) } : {}),
    ...(o.feature ? { feature: o.feature } : {}),
    ...(o.layout ? { layout: o.layout } : {}),
  });
}

/** "14 × 14 regions of 768 numbers; the token before them is left out" */
function regionsText({ regions, width }: { regions: number; width: number }, { dropped = 0 }: EncoderIdentity): string {
  const side = Math.sqrt(regions);
  const grid = Number.isInteger(side) ? `${side} × ${side} regions` : `${regions} regions`;
  const left =
    dropped === 0
      ? ''
      : `; ${dropped === 1 ? 'the token before them, which is of no region, is' : `the ${dropped} tokens before them, which are of no region, are`} left out`;
  return `${grid} of ${width} numbers${left}`;
}

/** "2/5" takes every fifth picture from the second on: the shards of a dataset together hold each picture once. */
function ofShard(files: readonly string[], shard: string | undefined): readonly string[] {
  if (shard === undefined) return files;
  const [number, of] = shard.split('/').map(Number);
  return files.filter((_, i) => i % of === number - 1);
}

export async function merge(o: CommonOptions, out: string, stores: string[]): Promise<number> {
  let bar: ReturnType<typeof progress> | null = null;
  using end = endRequest((signal) => say(o, `${signal}: stopping; what is merged is kept`));
  const onMerged = (done: number, total: number) => {
    bar ??= progress(o, 'merge', total, 'pictures');
    bar.update(done);
  };
  const index = await mergeStores(out, stores, onMerged, () => end.signal !== null);
  (bar as ReturnType<typeof progress> | null)?.stop();
  if (!index) {
    result(o, { out, stopped: true, signal: end.signal }, () => `${out}: not finished, ${end.signal} stopped it; run the same command again to go on`);
    return end.exitCode;
  }
  const report = { out, pictures: index.files.length, regions: index.regions, width: index.width, type: index.type };
  result(o, report, () => `${out}: ${report.pictures} pictures of ${report.regions} × ${report.width} (${report.type}) from ${stores.length} stores`);
  return 0;
}

export async function features(o: FeaturesOptions): Promise<number> {
  if (!o.encoder && !o.model) throw new UsageError('give --encoder, or --model for that of a trained model');
  const dataset = readDataset(o.data);
  const splits = o.split ?? ['train', 'val', 'test'];
  const all = splits.flatMap((split) =>
    dataset.images
      .filter((image) => image.split === split)
      .slice(0, o.limit)
      .map(({ file }) => file),
  );
  const files = ofShard(all, o.shard);
  if (files.length === 0) throw new GlimpseError(`${o.data} has no picture in ${splits.join(', ')}`);
  return withGpu(o, async () => {
    const encoder = await openEncoder(o);
    say(o, `encoder: ${encoder.identity.path}, feature map "${encoder.identity.featureMap}", preprocessing ${encoder.identity.preprocessing}`);
    const loadBatch = (list: readonly string[]) =>
      Promise.all(list.map(async (file) => ({ file, pixels: await encoder.attempt(() => pictureOf(dataset, file, o.followLinks ?? false)) })));
    const skipped: string[] = [];
    const leaveOut = (file: string, fault: string) => {
      if (!o.skipBad) throw new GlimpseError(`${fault}\n  Replace the picture, or leave such pictures out with --skip-bad; what is done is kept.`);
      say(o, `left out: ${fault}`);
      skipped.push(file);
    };
    // The map's size is only known from a first run, and the store needs it to resume.
    const probe = await encoder.features([encoder.blank()]);
    say(o, `features: ${regionsText(probe, encoder.identity)}`);
    for (const note of encoder.notes) say(o, `${encoder.identity.path}: ${note}`);
    const fault = nonFiniteFault(probe.values);
    if (fault) throw new GlimpseError(`${encoder.identity.path}: its features are no numbers, even for a blank picture: ${fault}; its weights may be damaged`);
    const writer = FeatureWriter.open(o.out, { encoder: encoder.identity, regions: probe.regions, width: probe.width, type: o.precision });
    let constant = 0;
    const done = new Set(writer.index.files);
    const todo = files.filter((file) => !done.has(file));
    if (done.size > 0) say(o, `going on: ${done.size} pictures are already done`);
    using end = endRequest((signal) => say(o, `${signal}: stopping after this batch; what is done is kept`));
    const bar = progress(o, 'features', files.length, 'pictures');
    bar.update(files.length - todo.length);
    const started = performance.now();
    try {
      let next = loadBatch(todo.slice(0, o.batch));
      for (let first = 0; first < todo.length && !end.signal; first += o.batch) {
        const loaded = await next;
        next = loadBatch(todo.slice(first + o.batch, first + 2 * o.batch)); // decode while the GPU works
        const good: { file: string; pixels: Float32Array }[] = [];
        for (const { file, pixels } of loaded) {
          if (pixels instanceof FileError) leaveOut(file, pixels.message);
          else good.push({ file, pixels });
        }
        const { records } = good.length > 0 ? await encoder.features(good.map(({ pixels }) => pixels)) : { records: [] };
        for (const [i, record] of records.entries()) {
          const { file } = good[i];
          try {
            writer.append([file], [record]);
          } catch (error) {
            if (!(error instanceof BadFeatures)) throw error;
            leaveOut(file, `${join(dataset.imageFolder, file)}: ${error.fault}`);
          }
          if (record.every((value) => value === record[0])) constant++;
        }
        bar.update(files.length - todo.length + Math.min(todo.length, first + o.batch));
      }
    } catch (error) {
      writer.close();
      throw error;
    }
    bar.stop();
    if (end.signal) writer.close();
    else writer.finish();
    if (constant > 0 && constant === todo.length - skipped.length)
      say(o, `all features of a picture are the same number, in each of ${constant} pictures: the encoder may be damaged or of another kind`);
    encoder.dispose();
    const seconds = (performance.now() - started) / 1000;
    const rate = (todo.length - skipped.length) / seconds;
    const size = { regions: probe.regions, width: probe.width };
    const report = { out: o.out, pictures: writer.index.files.length, ...size, skipped, constant, seconds, picturesPerSecond: rate };
    result(o, { ...report, stopped: end.signal !== null, signal: end.signal }, () =>
      end.signal
        ? `${o.out}: not finished, ${end.signal} stopped it at ${report.pictures} of ${files.length} pictures; run the same command again to go on`
        : `${o.out}: ${report.pictures} pictures of ${probe.regions} × ${probe.width}, ${skipped.length} left out, in ${duration(seconds)} (${rate.toFixed(2)} pictures/s)`,
    );
    return end.exitCode;
  });
}
