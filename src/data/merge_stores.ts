/** Joins feature stores into one, such as the shards of several machines. One store is open at a time, and records pass through in pieces. */
import { existsSync, realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { GlimpseError } from '../errors.ts';
import { type FeatureKind, finishedHeader, HEADER, readHeader, type StoreHeader, storeFolders } from './feature_index.ts';
import { type Held, notesOf, type Part, sameWhole, type Together, together } from './feature_parts.ts';
import { FeatureStore, otherFeatures, requireOneKind } from './feature_store.ts';
import { FeatureWriter } from './feature_writer.ts';
import { quoted } from './validation.ts';

export interface MergeOptions {
  /** Merge shards of which some are missing. */
  allowMissing?: boolean;
  onMerged?(done: number, total: number): void;
  onNote?(note: string): void;
  shouldStop?(): boolean;
}

export interface Merged extends Omit<FeatureKind, 'encoder'> {
  pictures: number;
  /** How many stores were given. */
  stores: number;
  /** Pictures without features, since they cannot be read. */
  leftOut: string[];
  missing: Together['missing'];
}

/** Where a path leads, also if its last part is not there yet. */
function realPath(path: string): string {
  const whole = resolve(path);
  if (existsSync(whole)) return realpathSync(whole);
  return existsSync(dirname(whole)) ? join(realpathSync(dirname(whole)), basename(whole)) : whole;
}

function refuseInput(out: string, given: readonly string[], folders: readonly string[]): void {
  const own = realPath(out);
  const same = [...folders, ...given].find((folder) => realPath(folder) === own);
  if (same !== undefined) throw new GlimpseError(`${out} is also an input: ${same}; name another folder for the merged store`);
  const around = given.find((folder) => !folders.includes(folder) && realPath(folder) === dirname(own));
  if (around !== undefined) throw new GlimpseError(`${out} lies among the shards in ${around}, and would count as one of them; name a folder elsewhere`);
}

const partsText = (parts: readonly Part[] | null) => JSON.stringify(parts?.map(({ whole, of, numbers }) => [whole.list, of, numbers]) ?? null);

/** What a finished store at `out` has already joins the plan: it is completed. */
function finishedAt(out: string): StoreHeader | null {
  return existsSync(join(out, HEADER)) ? readHeader(join(out, HEADER)) : null;
}

/** Parts of `old` that the plan does not have. */
function beyond(old: readonly Part[], plan: readonly Part[]): Part[] {
  return old.flatMap((part) => {
    const twin = plan.find((each) => sameWhole(each, part));
    if (!twin) return [part];
    if (twin.of === 1) return [];
    if (part.of !== twin.of) return [part]; // told by `together`
    const numbers = part.numbers.filter((number) => !twin.numbers.includes(number));
    return numbers.length > 0 ? [{ ...part, numbers }] : [];
  });
}

/**
 * Merges stores of the same kind, in the order of their parts. Throws if one is missing, given twice, or cut from other pictures, and if
 * `out` is also an input. Stores that do not say which part they hold are merged as they are given. A picture in several is taken once, and
 * its records must be the same. Null if `shouldStop` ended it before; another merge goes on from there.
 */
export async function mergeStores(out: string, given: readonly string[], options: MergeOptions = {}): Promise<Merged | null> {
  const { allowMissing = false, onMerged = () => {}, onNote = () => {}, shouldStop = () => false } = options;
  const folders = storeFolders(given);
  refuseInput(out, given, folders);
  const stores = folders.map((folder) => {
    const { encoder, regions, width, type, pictures, index, parts, leftOut } = finishedHeader(folder);
    return { folder, header: { encoder, regions, width, type }, pictures, bytes: index?.bytes ?? 0, parts, leftOut };
  });
  requireOneKind(stores);
  const before = finishedAt(out);
  const inputs = together(stores, true);
  const earlier: Held[] = before ? [{ folder: out, parts: before.parts && beyond(before.parts, inputs.parts ?? []) }] : [];
  const plan = together([...stores, ...earlier], allowMissing);
  for (const note of notesOf(plan)) onNote(note);
  const writer = FeatureWriter.open(out, stores[0].header, {
    parts: plan.parts,
    refuse({ parts, finished }) {
      if (!finished && parts !== null && partsText(parts) !== partsText(plan.parts))
        throw new GlimpseError(`${out} was begun from other stores than these; give the same ones, or delete it`);
    },
  });
  const total = stores.reduce((sum, { pictures }) => sum + pictures, 0);
  // A merge that goes on finds rows that it wrote before; two stores must not both have one.
  const taken = new Uint8Array(writer.pictures);
  let done = 0;
  try {
    if (writer.pictures === 0)
      writer.expect(
        total,
        stores.reduce((sum, { bytes }) => sum + bytes, 0),
      );
    for (const { folder, parts, leftOut } of [...stores].sort(byPart)) {
      const store = await FeatureStore.open(folder);
      try {
        writer.leaveOut(leftOut);
        for await (const { files, records, sums } of store.records()) {
          if (shouldStop()) {
            writer.close();
            return null;
          }
          const isNew = files.map((file, i) => {
            const row = writer.rowOf(file);
            if (row < 0) return true;
            if (parts !== null && plan.unknown.length === 0 && (row >= taken.length || taken[row] === 1))
              throw new GlimpseError(`${folder} has features of ${quoted(file)}, which another store has too`);
            if (!writer.hasSum(row, sums[i])) throw otherFeatures(folder, file);
            if (row < taken.length) taken[row] = 1;
            return false;
          });
          const chosen = <T>(list: readonly T[]) => list.filter((_, i) => isNew[i]);
          writer.appendBytes(chosen(files), chosen(records), chosen(sums));
          done += files.length;
          onMerged(done, total);
        }
      } finally {
        await store.close();
      }
    }
  } catch (error) {
    writer.close();
    throw error;
  }
  writer.finish();
  const { regions, width, type } = stores[0].header;
  return { pictures: writer.pictures, regions, width, type, stores: stores.length, leftOut: writer.leftOut, missing: plan.missing };
}

/** Stores that say their part come in the order of the parts, whatever order they are given in; others stay where they are. */
function byPart(a: { parts: Part[] | null }, b: { parts: Part[] | null }): number {
  const [first, second] = [a, b].map(({ parts }) => parts?.[0]);
  if (!first || !second) return 0;
  return first.whole.list < second.whole.list ? -1 : first.whole.list > second.whole.list ? 1 : first.numbers[0] - second.numbers[0];
}
