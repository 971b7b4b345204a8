/** `glimpse features`: the encoder over all pictures of a dataset. */
import { join } from 'node:path';
import { readDataset, SPLITS } from '../data/captions.ts';
import type { EncoderIdentity } from '../data/encoder_identity.ts';
import { ownFolder, refuseShards } from '../data/feature_index.ts';
import { MOST_PARTS, missingText, type Part, partOf, refuseOtherPart, sampleOf, storesText } from '../data/feature_parts.ts';
import { BadFeatures, type Claim, FeatureWriter } from '../data/feature_writer.ts';
import { nonFiniteFault } from '../data/finite.ts';
import { mergeStores } from '../data/merge_stores.ts';
import { pictureOf } from '../data/picture_places.ts';
import { FileError, GlimpseError, UsageError } from '../errors.ts';
import { ImageEncoder, openEncoderOf } from '../model/encoder/encoder.ts';
import { type Launched, launchedAs } from '../platform/node/launcher.ts';
import type { FeaturesOptions } from './commands/features.ts';
import type { MergeOptions } from './commands/merge.ts';
import { duration, progress, result, say } from './output.ts';
import { checkpointAt, withGpu } from './session.ts';
import { endRequest } from './signals.ts';

function openEncoder(o: FeaturesOptions): Promise<ImageEncoder> {
  if (o.model) return openEncoderOf(checkpointAt(o, o.model), o.encoder);
  return ImageEncoder.open(o.encoder as string, {
    ...(o.preprocess ? { preprocessing: o.preprocess } : {}),
    ...(o.grid ? { grid: o.grid } : {}),
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

/** Which part of how many this process makes, and where. */
interface Share {
  number: number;
  of: number;
  out: string;
}

/** The part of --shard; else that of a process among those that a launcher started; else all. */
function shareOf({ shard, out }: FeaturesOptions, world: Launched | null): Share {
  if (shard === undefined && world) return { number: world.rank + 1, of: world.size, out: ownFolder(out, world.rank + 1, world.size) };
  refuseShards(out);
  const [number, of] = (shard ?? '1/1').split('/').map(Number);
  if (of > MOST_PARTS) throw new UsageError(`--shard cuts into ${MOST_PARTS} parts at most; got "${shard}"`);
  return { number, of, out };
}

/** Every n-th picture from the i-th on: the parts of a dataset together hold each picture once. */
const ofShare = (files: readonly string[], { number, of }: Share) => (of === 1 ? files : files.filter((_, i) => i % of === number - 1));

export async function merge(o: MergeOptions, out: string, stores: string[]): Promise<number> {
  let bar: ReturnType<typeof progress> | null = null;
  using end = endRequest((signal) => say(o, `${signal}: stopping; what is merged is kept`));
  const merged = await mergeStores(out, stores, {
    allowMissing: o.allowMissing,
    onNote: (note) => say(o, note),
    onMerged: (done, total) => {
      bar ??= progress(o, 'merge', total, 'pictures');
      bar.update(done);
    },
    shouldStop: () => end.signal !== null,
  });
  (bar as ReturnType<typeof progress> | null)?.stop();
  if (!merged) {
    result(o, { out, stopped: true, signal: end.signal }, () => `${out}: not finished, ${end.signal} stopped it; run the same command again to go on`);
    return end.exitCode;
  }
  const { pictures, regions, width, type, leftOut, missing } = merged;
  const report = { out, pictures, regions, width, type, stores: merged.stores, skipped: leftOut, missing };
  result(o, report, () => {
    const notes = [...(leftOut.length > 0 ? [`${leftOut.length} left out by --skip-bad`] : []), ...(missing.count > 0 ? [missingText(merged)] : [])];
    return `${out}: ${pictures} pictures of ${regions} × ${width} (${type}) from ${storesText(merged.stores)}${notes.map((note) => `; ${note}`).join('')}`;
  });
  return 0;
}

export async function features(o: FeaturesOptions): Promise<number> {
  if (!o.encoder && !o.model) throw new UsageError('give --encoder, or --model for that of a trained model');
  const world = launchedAs();
  const dataset = readDataset(o.data);
  const splits = SPLITS.filter((split) => o.split?.includes(split) ?? true);
  const all = splits.flatMap((split) =>
    dataset.images
      .filter((image) => image.split === split)
      .slice(0, o.limit)
      .map(({ file }) => file),
  );
  if (all.length === 0) throw new GlimpseError(`${o.data} has no picture in ${splits.join(', ')}`);
  const share = shareOf(o, world);
  const { out, number, of } = share;
  const files = ofShare(all, share);
  const picture = (file: string) => pictureOf(dataset, file, o.followLinks ?? false);
  const part: Part = partOf({ dataset: o.data, splits, limit: o.limit ?? null, files: all, number, of, sample: await sampleOf(all, picture) });
  const claim: Claim = { parts: [part], refuse: (held, names) => refuseOtherPart(held, names, part, files) };
  FeatureWriter.refuse(out, claim);
  if (world && !o.shard) say(o, `process ${number} of ${of} (${world.by}): shard ${number}/${of}, ${files.length} of ${all.length} pictures, into ${out}`);
  return withGpu(o, async () => {
    const encoder = await openEncoder(o);
    say(o, `encoder: ${encoder.identity.path}, feature map "${encoder.identity.featureMap}", preprocessing ${encoder.identity.preprocessing}`);
    const loadBatch = (list: readonly string[]) => Promise.all(list.map(async (file) => ({ file, pixels: await encoder.attempt(() => picture(file)) })));
    const skipped: string[] = [];
    const leaveOut = (file: string, fault: string) => {
      if (!o.skipBad) throw new GlimpseError(`${fault}\n  Replace the picture, or leave such pictures out with --skip-bad; what is done is kept.`);
      say(o, `left out: ${fault}`);
      skipped.push(file);
      writer.leaveOut([file]);
    };
    // The map's size is only known from a first run, and the store needs it to resume.
    const probe = await encoder.features([encoder.blank()]);
    say(o, `features: ${regionsText(probe, encoder.identity)}`);
    for (const note of encoder.notes) say(o, `${encoder.identity.path}: ${note}`);
    const fault = nonFiniteFault(probe.values);
    if (fault) throw new GlimpseError(`${encoder.identity.path}: its features are no numbers, even for a blank picture: ${fault}; its weights may be damaged`);
    const writer = FeatureWriter.open(out, { encoder: encoder.identity, regions: probe.regions, width: probe.width, type: o.precision }, claim);
    let constant = 0;
    const todo = files.filter((file) => !writer.has(file));
    if (writer.pictures > 0) say(o, `going on: ${writer.pictures} pictures are already done`);
    if (files.length === 0) say(o, `shard ${number}/${of} of ${all.length} pictures has none: its store is empty`);
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
    const report = { out, shard: of === 1 ? null : `${number}/${of}`, pictures: writer.pictures, ...size, skipped, constant, seconds, picturesPerSecond: rate };
    result(o, { ...report, stopped: end.signal !== null, signal: end.signal }, () =>
      end.signal
        ? `${out}: not finished, ${end.signal} stopped it at ${report.pictures} of ${files.length} pictures; run the same command again to go on`
        : `${out}: ${report.pictures} pictures of ${probe.regions} × ${probe.width}, ${skipped.length} left out, in ${duration(seconds)} (${rate.toFixed(2)} pictures/s)`,
    );
    return end.exitCode;
  });
}
