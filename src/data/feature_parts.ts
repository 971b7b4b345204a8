/**
 * Which pictures a feature store was made for, and which part of them it holds. Machines share a dataset out among them; each makes the
 * store of one part. The stores say which part they are, so that one that is missing, given twice or cut from other pictures is noticed.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { GlimpseError } from '../errors.ts';
import { openFile } from './file_source.ts';
import type { PictureFile } from './images.ts';
import { quoted } from './validation.ts';

/** Most parts that a dataset is cut into. */
export const MOST_PARTS = 1_000_000;
/** Pictures of a selection whose bytes are compared. */
const SAMPLED = 16;
const SAMPLE_BYTES = 1 << 20;

const Hash = z.string().regex(/^[0-9a-f]{16}$/, 'expected 16 hexadecimal digits');

const Fields = z.object({
  /** The dataset's file, its splits and the pictures per split at most; only for messages. */
  dataset: z.string(),
  splits: z.array(z.string()),
  limit: z.number().int().positive().nullable(),
  /** All pictures that were selected: how many they are, and a hash of their names in order. */
  whole: z.object({
    pictures: z.number().int().nonnegative(),
    list: Hash,
    /** Some of them, with hashes of their bytes; null where the file could not be read. Two datasets may have the same names. */
    sample: z.array(z.tuple([z.string(), Hash.nullable()])).max(SAMPLED),
  }),
  /** Of how many parts; part i has the pictures i, i + of, i + 2·of, … of the list. */
  of: z.number().int().positive().max(MOST_PARTS),
  /** The parts that this store has, from 1, in rising order. A store that others were merged into may have several. */
  numbers: z.array(z.number().int().positive()).min(1),
  /** Pictures of these parts, with those that were left out. */
  pictures: z.number().int().nonnegative(),
});
export type Part = z.infer<typeof Fields>;

export const Part: z.ZodType<Part> = Fields.refine(
  ({ of, numbers }) => numbers.every((number, i) => number <= of && (i === 0 || number > numbers[i - 1])),
  'its parts are not those of one cut',
).refine((part) => part.pictures === picturesIn(part), 'its count of pictures is not that of its parts');

/** Pictures of the parts `numbers` of a whole. */
function picturesIn({ whole, of, numbers }: Pick<Part, 'whole' | 'of' | 'numbers'>): number {
  return numbers.reduce((sum, number) => sum + Math.max(0, Math.ceil((whole.pictures - number + 1) / of)), 0);
}

/** A hash of names in their order; 16 hexadecimal digits. */
function listHash(files: readonly string[]): string {
  const hash = createHash('sha256');
  for (let first = 0; first < files.length; first += 4096) hash.update(`${files.slice(first, first + 4096).join('\0')}\0`);
  return hash.digest('hex').slice(0, 16);
}

/** FNV-1a over the units of a text. It is the same everywhere, so that machines choose the same pictures. */
function fixedHash(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** The names with the smallest hashes. So two lists that share most names share most of their samples. */
export function sampled(files: readonly string[]): string[] {
  const best: { file: string; hash: number }[] = [];
  for (const file of files) {
    const hash = fixedHash(file);
    if (best.length === SAMPLED && hash >= best[SAMPLED - 1].hash) continue;
    best.push({ file, hash });
    best.sort((a, b) => a.hash - b.hash);
    best.length = Math.min(best.length, SAMPLED);
  }
  return best.map(({ file }) => file).sort();
}

/** A hash of a picture's size and first megabyte. */
const hashOf = (size: number, bytes: Uint8Array) => createHash('sha256').update(`${size}\0`).update(bytes).digest('hex').slice(0, 16);

/** The hash of a picture that is a file. Null if it cannot be read here: a machine may have only the pictures of its own part. */
export function fileHash(path: string): string | null {
  try {
    const file = openFile(path);
    try {
      return hashOf(file.size, file.read(0, SAMPLE_BYTES));
    } finally {
      file.close();
    }
  } catch {
    return null;
  }
}

/** Some of the pictures, with hashes of their bytes. */
export async function sampleOf(files: readonly string[], pictureOf: (file: string) => Promise<PictureFile>): Promise<Part['whole']['sample']> {
  const sample: Part['whole']['sample'] = [];
  for (const file of sampled(files)) {
    const picture = await pictureOf(file).catch(() => null);
    const isInShard = picture !== null && typeof picture !== 'string';
    sample.push([file, isInShard ? hashOf(picture.bytes.length, picture.bytes.subarray(0, SAMPLE_BYTES)) : picture === null ? null : fileHash(picture)]);
  }
  return sample;
}

/** What was asked of `glimpse features`. */
export interface Selection {
  dataset: string;
  splits: readonly string[];
  limit: number | null;
  /** All pictures that were selected, in order. */
  files: readonly string[];
  /** Which part of how many. */
  number: number;
  of: number;
  /** Some of them: see `sampleOf`. */
  sample: Part['whole']['sample'];
}

/** The part that a selection asks for. */
export function partOf({ dataset, splits, limit, files, number, of, sample }: Selection): Part {
  const whole = { pictures: files.length, list: listHash(files), sample };
  return { dataset, splits: [...splits], limit, whole, of, numbers: [number], pictures: picturesIn({ whole, of, numbers: [number] }) };
}

/**
 * A picture that both samples have under one name with other bytes, if most that they share are so; else undefined. A few may differ: a
 * picture that could not be read may have been replaced since.
 */
function contradiction(a: Part, b: Part): string | undefined {
  const known = new Map(a.whole.sample);
  const shared = b.whole.sample.filter(([file, hash]) => hash !== null && (known.get(file) ?? null) !== null);
  const other = shared.filter(([file, hash]) => known.get(file) !== hash);
  return 2 * other.length > shared.length ? other[0][0] : undefined;
}

const sameList = (a: Part, b: Part) => a.whole.list === b.whole.list && a.whole.pictures === b.whole.pictures;

/** Whether two parts are of the same pictures. */
export const sameWhole = (a: Part, b: Part) => sameList(a, b) && contradiction(a, b) === undefined;

const MOST_LISTED = 8;

/** "2/3", "1/3 and 3/3", "1/9, 2/9, … (7 in all)" */
function numbersText(numbers: readonly number[], of: number): string {
  const texts = numbers.slice(0, MOST_LISTED).map((number) => `${number}/${of}`);
  if (numbers.length > MOST_LISTED) return `${texts.join(', ')}, … (${numbers.length} in all)`;
  return texts.length < 2 ? texts.join('') : `${texts.slice(0, -1).join(', ')} and ${texts[texts.length - 1]}`;
}

const picturesText = (count: number) => (count === 1 ? '1 picture' : `${count} pictures`);

/** "1 store" */
export const storesText = (count: number) => `${count} store${count === 1 ? '' : 's'}`;

/** "12 pictures of W/dataset.json (train, val; 6 of a split at most)" */
const wholeText = ({ whole, dataset, splits, limit }: Part) =>
  `${picturesText(whole.pictures)} of ${dataset} (${splits.join(', ')}${limit === null ? '' : `; ${limit} of a split at most`})`;

/** "part 1 of 3", "the parts 1/3 and 3/3" */
function heldText({ of, numbers }: Part): string {
  return numbers.length === 1 ? `part ${numbers[0]} of ${of}` : `the parts ${numbersText(numbers, of)}`;
}

/** "shard 2/3 of 12 pictures of W/dataset.json (train, val, test)" */
const partText = (part: Part) =>
  `${part.of === 1 ? 'all' : `shard${part.numbers.length === 1 ? '' : 's'} ${numbersText(part.numbers, part.of)} of the`} ${wholeText(part)}`;

/** The numbers of a cut that are not among `numbers`; the first ones, and how many they are. Parts without pictures need not be there. */
function absent({ of, numbers, whole }: Part): { first: number[]; count: number } {
  const known = new Set(numbers);
  const last = Math.min(of, whole.pictures);
  const first: number[] = [];
  for (let number = 1; number <= last && first.length < MOST_LISTED; number++) if (!known.has(number)) first.push(number);
  return { first, count: last - numbers.filter((number) => number <= last).length };
}

/** A store and the parts it says it has; null where a store does not say. */
export interface Held {
  folder: string;
  parts: readonly Part[] | null;
}

/** What several stores have together. */
export interface Together {
  /** Null if a store does not say which part it holds. */
  parts: Part[] | null;
  /** Shards that no store has, as "2/3"; the first ones, and how many they are and their pictures. */
  missing: { shards: string[]; count: number; pictures: number };
  /** Stores that do not say which part they hold. */
  unknown: string[];
}

/**
 * What the stores have together. Throws a GlimpseError if they are not parts of one cut, if two hold the same part, or if one is missing.
 * `allowMissing` lets parts be missing. Stores that each hold all of other pictures may be joined.
 */
export function together(stores: readonly Held[], allowMissing: boolean): Together {
  const groups: { folder: string; part: Part; first: Part; owners: Map<number, string> }[] = [];
  // A part without pictures adds nothing and lacks nothing, however it was cut.
  const isEmpty = (part: Part) => part.pictures === 0;
  const onlyEmpty = stores.every(({ parts }) => parts?.every(isEmpty) ?? true);
  for (const { folder, parts } of stores)
    for (const part of parts ?? []) {
      if (isEmpty(part) && !onlyEmpty) continue;
      const group = groups.find((each) => sameWhole(each.part, part));
      if (!group) {
        groups.push({ folder, part, first: part, owners: new Map(part.numbers.map((number) => [number, folder])) });
        continue;
      }
      if (group.part.of !== part.of) {
        throw new GlimpseError(
          `${group.folder} is ${heldText(group.part)}, ${folder} ${heldText(part)} of the same pictures: the ${wholeText(part)} were cut differently` +
            '\n  Make all shards with one count: --shard i/n with the same n.',
        );
      }
      for (const number of part.numbers) {
        const owner = group.owners.get(number);
        if (owner !== undefined)
          throw new GlimpseError(
            `${owner} and ${folder} both hold ${part.of === 1 ? 'all' : `shard ${number}/${part.of} of the`} ${wholeText(part)}: give each shard once`,
          );
        group.owners.set(number, folder);
      }
      if (part.numbers[0] < group.first.numbers[0]) group.first = part; // so that the order of the stores does not matter
    }
  const parts = groups.map(({ first, owners }) => {
    const joined = { ...first, numbers: [...owners.keys()].sort((a, b) => a - b) };
    const pictures = picturesIn(joined);
    return pictures === joined.whole.pictures ? { ...joined, of: 1, numbers: [1], pictures } : { ...joined, pictures };
  });
  parts.sort((a, b) => (a.whole.list < b.whole.list ? -1 : 1));
  const incomplete = parts.filter(({ of }) => of > 1);
  if (incomplete.length > 0 && groups.length > 1) {
    const [a, b] = groups;
    const same = a.part.whole.list === b.part.whole.list ? contradiction(a.part, b.part) : undefined;
    throw new GlimpseError(
      `${a.folder} and ${b.folder} are not of the same pictures: ${a.folder} holds ${partText(a.part)}, ${b.folder} ${partText(b.part)}` +
        (same === undefined ? '' : `; ${quoted(same)} is another picture there`),
    );
  }
  const unknown = stores.filter((store) => store.parts === null).map(({ folder }) => folder);
  const missing: Together['missing'] = { shards: [], count: 0, pictures: 0 };
  for (const part of incomplete) {
    const { first, count } = absent(part);
    missing.shards.push(...first.map((number) => `${number}/${part.of}`));
    missing.count += count;
    missing.pictures += part.whole.pictures - part.pictures;
    if (allowMissing) continue;
    throw new GlimpseError(
      `${missingText({ missing })} of the ${wholeText(part)}` +
        (unknown.length > 0 ? `; ${unknown[0]} does not say which part it holds` : '') +
        '\n  Give all shards, or accept that pictures are missing with --allow-missing.',
    );
  }
  return { parts: unknown.length > 0 ? null : parts, missing, unknown };
}

/** "shards 1/3 and 3/3 are missing: 8 pictures"; null if none is. */
export function missingText({ missing: { shards, count, pictures } }: Pick<Together, 'missing'>): string | null {
  if (count === 0) return null;
  const listed = count > shards.length ? `${shards.join(', ')} and ${count - shards.length} more` : shards.join(', ').replace(/, ([^,]*)$/, ' and $1');
  return `shard${count === 1 ? '' : 's'} ${listed} ${count === 1 ? 'is' : 'are'} missing: ${picturesText(pictures)}`;
}

/** What a reader of one store must know: that it is a part only. */
export const notesOfOne = ({ folder, parts }: Held): string[] =>
  (parts ?? [])
    .filter(({ of }) => of > 1)
    .map((part) => `${folder} holds ${partText(part)}: ${picturesText(part.pictures)}; the others count as without features`);

/** What a reader of several stores must know. */
export function notesOf(found: Together): string[] {
  const { unknown } = found;
  const missing = missingText(found);
  const more = unknown.length > 1 ? ` and ${unknown.length - 1} more` : '';
  const one = unknown.length === 1;
  return [
    ...(missing === null ? [] : [`${missing}, as --allow-missing accepts`]),
    ...(unknown.length > 0
      ? [`${unknown[0]}${more} ${one ? 'does' : 'do'} not say which part ${one ? 'it holds' : 'they hold'}, so that missing parts cannot be noticed`]
      : []),
  ];
}

/**
 * Throws a GlimpseError if a folder that holds a store, or the beginning of one, cannot take this part. It can if it was begun for the
 * same part, or for the same part of fewer pictures. `names` are the pictures that it has features of or left out, `files` those of the
 * part.
 */
export function refuseOtherPart(held: Held & { pictures: number }, names: () => Iterable<string>, part: Part, files: readonly string[]): void {
  const { folder, parts } = held;
  const [old] = parts ?? [];
  const refused = (what: string) =>
    new GlimpseError(`${folder} ${what}\n  This is ${partText(part)}: name another folder with --out. \`glimpse merge\` joins stores.`);
  if (old) {
    const sameCut = parts?.length === 1 && old.of === part.of && old.numbers.join() === part.numbers.join();
    if (!sameCut) throw refused(`holds ${partText(old)}`);
    const other = held.pictures > 0 ? contradiction(old, part) : undefined;
    if (other !== undefined) throw refused(`holds ${partText(old)}, where ${quoted(other)} is another picture`);
    if (sameList(old, part)) return;
  }
  const wanted = new Set(files);
  for (const name of names())
    if (!wanted.has(name)) throw refused(`holds ${old ? partText(old) : 'features'}, with ${quoted(name)}, which is not selected here`);
}
