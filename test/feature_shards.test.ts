/** Shards: what several stores hold together, which are refused, merging in any order, and reading many stores as one. */
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { fileHash, type Part, partOf, refuseOtherPart, sampled } from '../src/data/feature_parts.ts';
import { FeatureStore } from '../src/data/feature_store.ts';
import { FeatureWriter } from '../src/data/feature_writer.ts';
import { type MergeOptions, mergeStores } from '../src/data/merge_stores.ts';
import { captionerRun } from './captioner_run.ts';
import { glimpse, temporaryFolder } from './support.ts';

const folder = temporaryFolder();
const at = (...names: string[]) => join(folder, ...names);

const kind = {
  encoder: { path: '/m.onnx', sha256: 'abc', featureMap: 'y', preprocessing: 'imagenet', tuned: null },
  regions: 1,
  width: 3,
  type: 'f16' as const,
};
const names = (count: number) => Array.from({ length: count }, (_, i) => `folder/${i}.jpg`);
const record = (file: string) => Float32Array.of(file.length, Number(/\d+/.exec(file)?.[0]) % 1000, 0.5);

interface Made {
  files: string[];
  number?: number;
  of?: number;
  /** Pictures that cannot be read. */
  bad?: string[];
  splits?: string[];
  limit?: number | null;
  /** Where pictures are; their content is sampled. */
  pictures?: string;
}

/** Writes a shard's store as `glimpse features` does. */
function make(path: string, { files, number = 1, of = 1, bad = [], splits = ['train'], limit = null, pictures = '/none' }: Made): string {
  const own = files.filter((_, i) => i % of === number - 1);
  const part = partOf({
    ...{ dataset: 'dataset.json', splits, limit, files, number, of },
    sample: sampled(files).map((file) => [file, fileHash(join(pictures, file))]),
  });
  const writer = FeatureWriter.open(path, kind, { parts: [part], refuse: (held, inside) => refuseOtherPart(held, inside, part, own) });
  const good = own.filter((file) => !bad.includes(file) && !writer.has(file));
  writer.append(good, good.map(record));
  writer.leaveOut(own.filter((file) => bad.includes(file)));
  writer.finish();
  return path;
}

const fresh = (name: string) => {
  rmSync(at(name), { recursive: true, force: true });
  return at(name);
};

/** All that a store has, by name. */
async function contents(path: string | string[]): Promise<Record<string, string>> {
  const store = await FeatureStore.open(path);
  const found: Record<string, string> = {};
  for (const file of store.files()) found[file] = Buffer.from(await store.readBytes(file)).toString('hex');
  await store.close();
  expect(Object.keys(found)).toHaveLength(store.pictures);
  return found;
}

const partsOf = (path: string): { parts: Part[] | null; leftOut: string[] } => JSON.parse(readFileSync(join(path, 'features.json'), 'utf8'));
const merged = (out: string, stores: string[], options: MergeOptions = {}) => mergeStores(fresh(out), stores, options);

test('any cut into shards, merged in any order or read side by side, is what one run makes', async () => {
  let tried = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 23 }),
      fc.integer({ min: 1, max: 9 }),
      fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true })),
      async (count, of, random) => {
        const folders = at(`cut ${tried++}`);
        const files = names(count);
        const bad = files.filter(() => random.next().value > 0.8);
        const whole = make(join(folders, 'whole'), { files, bad });
        const shards = Array.from({ length: of }, (_, i) => make(join(folders, 'side by side', `${i + 1}`), { files, number: i + 1, of, bad }));
        const order = shards.map((shard) => ({ shard, key: random.next().value })).sort((a, b) => a.key - b.key);
        const out = join(folders, 'merged');
        const report = await mergeStores(
          out,
          order.map(({ shard }) => shard),
        );
        expect(report).toMatchObject({ pictures: count - bad.length, leftOut: [...bad].sort(), stores: of });
        const right = await contents(whole);
        expect(await contents(out)).toEqual(right);
        expect(await contents(join(folders, 'side by side'))).toEqual(right);
        expect(partsOf(out)).toMatchObject({ parts: partsOf(whole).parts, leftOut: [...bad].sort() });
        // In the order that they were given in nothing is left of a merge.
        const straight = join(folders, 'straight');
        await mergeStores(straight, shards);
        for (const name of readdirSync(out)) expect(readFileSync(join(straight, name)), name).toEqual(readFileSync(join(out, name)));
        const hashes: string[] = [];
        for (const path of [whole, out, join(folders, 'side by side')]) {
          const store = await FeatureStore.open(path);
          hashes.push(store.hashOf(files));
          const some = files.filter((file) => !bad.includes(file)).sort(() => random.next().value - 0.5);
          expect([...(await store.read(some))]).toEqual(some.flatMap((file) => [...record(file)]));
          await store.close();
        }
        expect(new Set(hashes).size).toBe(1);
        rmSync(folders, { recursive: true });
      },
    ),
    { numRuns: 12 },
  );
});

describe('what merge and several stores of --features refuse', () => {
  const files = names(12);
  const others = files.map((file) => file.replace('folder', 'other'));
  const shard = (number: number, of: number, change: Partial<Made> = {}) => {
    const path = at(`shard ${number} of ${of} ${JSON.stringify(change).length}`);
    return existsSync(path) ? path : make(path, { files, number, of, ...change });
  };
  const pictures = (name: string) => {
    mkdirSync(at(name, 'folder'), { recursive: true });
    for (const file of files) writeFileSync(at(name, file), `${name} ${file}`);
    return at(name);
  };
  const CASES: [string, () => string[], RegExp][] = [
    [
      'a missing shard',
      () => [shard(1, 3), shard(3, 3)],
      /^shard 2\/3 is missing: 4 pictures of the 12 pictures of dataset\.json \(train\)\n.*--allow-missing/,
    ],
    ['two of four', () => [shard(1, 4), shard(3, 4)], /^shards 2\/4 and 4\/4 are missing: 6 pictures/],
    ['a shard given twice', () => [shard(1, 3), shard(2, 3), shard(2, 3)], /both hold shard 2\/3 of the 12 pictures/],
    ['other cuts', () => [shard(1, 3), shard(2, 4)], /shard 1 of 3 \d+ is part 1 of 3, .*shard 2 of 4 \d+ part 2 of 4 of the same pictures/],
    ['the whole and a shard', () => [shard(1, 1), shard(2, 4)], /is part 1 of 1, .* part 2 of 4/],
    ['the whole twice', () => [shard(1, 1), shard(1, 1)], /both hold all 12 pictures/],
    ['another dataset', () => [shard(1, 2), shard(2, 2, { files: others })], /are not of the same pictures/],
    ['another limit', () => [shard(1, 2), shard(2, 2, { files: files.slice(0, 6), limit: 6 })], /not of the same pictures.*\(train; 6 of a split at most\)/],
    [
      'the same names of other pictures',
      () => [shard(1, 2, { pictures: pictures('V') }), shard(2, 2, { pictures: pictures('Wide') })],
      /is another picture there/,
    ],
  ];
  test.each(CASES)('%s', async (_name, stores, error) => {
    await expect(merged('refused', stores())).rejects.toThrow(error);
    expect(existsSync(at('refused'))).toBe(false);
    await expect(FeatureStore.open(stores())).rejects.toThrow(error);
  });

  test('shards of another dataset are no missing ones', async () => {
    await expect(merged('refused', [shard(1, 2), shard(2, 2, { files: others })], { allowMissing: true })).rejects.toThrow(/not of the same pictures/);
  });

  test('an output that is also an input, or lies among the shards', async () => {
    const [one, two] = [shard(1, 2), shard(2, 2)];
    await expect(mergeStores(one, [one, two])).rejects.toThrow(/is also an input/);
    await expect(mergeStores(join(one, '..', 'shard 1 of 2 2'), [one, two])).rejects.toThrow(/is also an input/);
    const side = fresh('side');
    for (const each of [1, 2]) make(join(side, `${each}`), { files, number: each, of: 2 });
    await expect(mergeStores(side, [side])).rejects.toThrow(/is also an input/);
    await expect(mergeStores(join(side, 'merged'), [side])).rejects.toThrow(/lies among the shards/);
    expect((await merged('elsewhere', [side]))?.pictures).toBe(12);
  });

  test('missing shards are accepted when that is asked for, told, and can come later', async () => {
    const [one, two, three] = [1, 2, 3].map((number) => shard(number, 3, { bad: [files[3], files[4]] }));
    const notes: string[] = [];
    const report = await merged('part', [three, one], { allowMissing: true, onNote: (note) => notes.push(note) });
    expect(report).toMatchObject({ pictures: 7, leftOut: [files[3]], missing: { shards: ['2/3'], count: 1, pictures: 4 } });
    expect(notes).toEqual(['shard 2/3 is missing: 4 pictures, as --allow-missing accepts']);
    expect(partsOf(at('part'))).toMatchObject({ parts: [{ of: 3, numbers: [1, 3], pictures: 8 }] });
    const alone = await FeatureStore.open(at('part'));
    expect(alone.notes).toEqual([
      expect.stringMatching(/part holds shards 1\/3 and 3\/3 of the 12 pictures.*: 8 pictures; the others count as without features/),
    ]);
    await alone.close();
    const side = await FeatureStore.open([at('part'), two]);
    expect(side.notes).toEqual([]);
    await side.close();
    expect(await mergeStores(at('part'), [two])).toMatchObject({ pictures: 10, leftOut: [files[3], files[4]], missing: { count: 0 } });
    expect(await contents(at('part'))).toEqual(await contents([one, two, three]));
    expect(partsOf(at('part'))).toMatchObject({ parts: [{ of: 1, numbers: [1], pictures: 12 }] });
  });

  test('stores of whole datasets are joined; a picture must not be in both', async () => {
    const [one, two] = [shard(1, 1), shard(1, 1, { files: others })];
    expect(await merged('joined', [one, two])).toMatchObject({ pictures: 24 });
    expect(partsOf(at('joined')).parts).toHaveLength(2);
    const overlapping = shard(1, 1, { files: [...others, files[3]] });
    await expect(merged('refused', [one, overlapping])).rejects.toThrow(/features of "folder\/3\.jpg", which another store has too/);
    await expect(FeatureStore.open([one, overlapping])).rejects.toThrow(/both have features of "folder\/3\.jpg"/);
  });

  test('a shard without pictures', async () => {
    const few = files.slice(0, 3);
    const path = make(fresh('empty'), { files: few, number: 64, of: 64 });
    expect(await contents(path)).toEqual({});
    const full = few.map((_, i) => make(fresh(`full ${i}`), { files: few, number: i + 1, of: 64 }));
    expect(await merged('with empty', [path, ...full])).toMatchObject({ pictures: 3, missing: { count: 0 } });
    expect(await merged('without empty', full)).toMatchObject({ pictures: 3, missing: { count: 0 } });
    expect(Object.keys(await contents([full[0], path, full[1], full[2]]))).toEqual(few);
    await expect(merged('refused', [path])).rejects.toThrow(/^shards 1\/64, 2\/64 and 3\/64 are missing: 3 pictures/);
  });

  test('stores that do not say their part are merged; missing parts cannot be noticed', async () => {
    const old = (name: string, list: string[]) => {
      mkdirSync(fresh(name));
      const bytes = list.map((file) => new Uint8Array(Float32Array.from(record(file)).buffer));
      const checksums = bytes.map((each) => createHash('sha256').update(each).digest('hex').slice(0, 16));
      writeFileSync(at(name, 'features.f32'), Buffer.concat(bytes));
      writeFileSync(at(name, 'features.json'), JSON.stringify({ version: 1, ...kind, type: 'f32', files: list, checksums }));
      return at(name);
    };
    const stores = [old('old1', files.slice(0, 7)), old('old2', files.slice(5))];
    const notes: string[] = [];
    expect(await merged('of old', stores, { onNote: (note) => notes.push(note) })).toMatchObject({ pictures: 12 });
    expect(notes).toEqual([expect.stringMatching(/old1 and 1 more do not say which part they hold, so that missing parts cannot be noticed/)]);
    expect(partsOf(at('of old')).parts).toBe(null);
    const store = await FeatureStore.open(stores);
    expect(store.pictures).toBe(12);
    expect([...store.files()]).toEqual(files);
    expect([...(await store.read([files[11], files[0]]))]).toEqual([...record(files[11]), ...record(files[0])]);
    const [first] = await Promise.all([FeatureStore.open(at('of old'))]);
    expect(first.hashOf(files)).toBe(store.hashOf(files));
    await store.close();
    await first.close();
  });
});

describe('a folder that holds a store takes', () => {
  const files = names(12);
  const cases: [string, Made, Made, RegExp | null][] = [
    ['the same part again', { files, number: 1, of: 2 }, { files, number: 1, of: 2 }, null],
    ['more pictures of the whole', { files: files.slice(0, 5), limit: 5 }, { files }, null],
    ['more pictures, where the earlier ones are the same', { files: files.slice(0, 4), number: 2, of: 2 }, { files, number: 2, of: 2 }, null],
    ['no other shard', { files, number: 1, of: 2 }, { files, number: 2, of: 2 }, /holds shard 1\/2 of the 12 .*\n {2}This is shard 2\/2 of the/],
    ['no other cut', { files, number: 1, of: 2 }, { files, number: 1, of: 3 }, /holds shard 1\/2/],
    ['no whole in place of a shard', { files, number: 1, of: 2 }, { files }, /holds shard 1\/2 of the 12 .*\n {2}This is all 12 pictures/],
    [
      'no other dataset',
      { files },
      { files: ['z.jpg'] },
      /holds all 12 pictures of dataset\.json \(train\), with "folder\/0\.jpg", which is not selected here/,
    ],
    ['no fewer pictures', { files }, { files: files.slice(0, 3), limit: 3 }, /"folder\/3\.jpg", which is not selected here/],
  ];
  test.each(cases)('%s', async (name, before, after, error) => {
    const path = make(at(name), before);
    const sound = Object.fromEntries(readdirSync(path).map((each) => [each, readFileSync(join(path, each))]));
    if (error === null) {
      make(path, after);
      expect(Object.keys(await contents(path))).toHaveLength(after.files.filter((_, i) => i % (after.of ?? 1) === (after.number ?? 1) - 1).length);
      return;
    }
    expect(() => make(path, after)).toThrow(error);
    expect(Object.fromEntries(readdirSync(path).map((each) => [each, readFileSync(join(path, each))]))).toEqual(sound);
  });

  test('a part that was begun and killed at once is known too', () => {
    const path = at('begun');
    const part = partOf({ dataset: 'd', splits: [], limit: null, files, number: 1, of: 3, sample: [] });
    FeatureWriter.open(path, kind, { parts: [part], refuse: () => {} }).close();
    expect(() => make(path, { files, number: 2, of: 3 })).toThrow(/holds shard 1\/3/);
  });

  test('a store of an earlier version whose pictures are all selected', async () => {
    const path = at('earlier');
    mkdirSync(path);
    const bytes = new Uint8Array(Uint16Array.of(0, 0x3c00, 0x3800).buffer);
    const checksums = [createHash('sha256').update(bytes).digest('hex').slice(0, 16)];
    const index = { version: 1, ...kind, files: [files[2]], checksums };
    writeFileSync(join(path, 'features.f16'), bytes);
    writeFileSync(join(path, 'features.json'), JSON.stringify(index));
    expect(() => make(path, { files: files.slice(3) })).toThrow(/holds features, with "folder\/2\.jpg", which is not selected/);
    make(path, { files });
    expect(Object.keys(await contents(path))).toEqual([files[2], ...files.filter((_, i) => i !== 2)]);
    expect((await contents(path))[files[2]]).toBe(Buffer.from(bytes).toString('hex'));
  });
});

test('a picture that was replaced since does not make a dataset another one', async () => {
  const files = names(12);
  mkdirSync(at('replaced', 'folder'), { recursive: true });
  for (const file of files) writeFileSync(at('replaced', file), `broken ${file}`);
  const shard = (number: number, change: Partial<Made> = {}) =>
    make(at('replaced', `${number}`), { files, number, of: 2, pictures: at('replaced'), ...change });
  shard(1, { bad: [files[2]] });
  for (const i of [2, 7]) writeFileSync(at('replaced', files[i]), 'sound');
  shard(1);
  shard(2);
  for (const i of [0, 1]) writeFileSync(at('replaced', files[i]), 'sharper');
  shard(2);
  expect(await merged('of replaced', [shard(1), shard(2)])).toMatchObject({ pictures: 12, leftOut: [] });
  const alone = () =>
    make(at('replaced', 'alone'), { files: files.slice(0, 1), pictures: at('replaced'), bad: existsSync(at('replaced', 'alone')) ? [] : [files[0]] });
  alone();
  writeFileSync(at('replaced', files[0]), 'sound at last');
  alone();
  expect(Object.keys(await contents(at('replaced', 'alone')))).toEqual([files[0]]);
});

test('a picture that was left out and is sound later is counted once', async () => {
  const files = names(4);
  const path = make(at('mended'), { files, bad: [files[1]] });
  expect(partsOf(path)).toMatchObject({ pictures: 3, leftOut: [files[1]] });
  make(path, { files });
  expect(partsOf(path)).toMatchObject({ pictures: 4, leftOut: [] });
});

test('a hundred stores are read as one with few open files, several batches at a time', async () => {
  const files = names(250);
  const side = at('hundred');
  for (let number = 1; number <= 100; number++) make(join(side, `shard-${number}-of-100`), { files, number, of: 100 });
  const open = () => (existsSync('/proc/self/fd') ? readdirSync('/proc/self/fd').length : 0);
  const before = open();
  const store = await FeatureStore.open(side);
  const batches = [files, [...files].reverse(), files.filter((_, i) => i % 7 === 3)];
  const found = await Promise.all(batches.map((each) => store.read(each)));
  for (const [i, batch] of batches.entries()) expect([...found[i]]).toEqual(batch.flatMap((file) => [...record(file)]));
  expect(open() - before).toBeLessThanOrEqual(64);
  await store.close();
  expect(open()).toBe(before);
});

test('200,000 pictures: written, opened, read and looked up', async () => {
  const files = names(200_000);
  const path = at('many');
  const part = partOf({ dataset: 'd', splits: ['train'], limit: null, files, number: 1, of: 1, sample: [] });
  const writer = FeatureWriter.open(path, kind, { parts: [part], refuse: () => {} });
  for (let first = 0; first < files.length; first += 1000) {
    const batch = files.slice(first, first + 1000);
    writer.append(batch, batch.map(record));
  }
  writer.finish();
  expect(readFileSync(join(path, 'features.json')).length).toBeLessThan(4000); // it does not grow with the pictures
  const store = await FeatureStore.open(path);
  expect(store.pictures).toBe(200_000);
  expect(files.every((file) => store.has(file))).toBe(true);
  expect(files.some((file) => store.has(`${file}x`))).toBe(false);
  const some = files.filter((_, i) => i % 9973 === 1);
  expect([...(await store.read(some))]).toEqual(some.flatMap((file) => [...record(file)]));
  await store.close();
});

describe('an index from outside', () => {
  const files = names(3);
  const entry = (name: string | Buffer) => {
    const bytes = Buffer.from(name);
    const head = Buffer.alloc(10);
    head.writeUInt16LE(bytes.length, 8);
    return Buffer.concat([head, bytes]);
  };
  /** A store whose index holds these bytes, with the right checksums, so that only the content is at fault. */
  function hostile(index: Buffer, change: Record<string, unknown> = {}): string {
    const path = make(fresh('hostile'), { files });
    writeFileSync(join(path, 'features.index'), index);
    const { checksum: _old, ...header } = JSON.parse(readFileSync(join(path, 'features.json'), 'utf8'));
    const sha256 = createHash('sha256').update(index).digest('hex');
    const text = JSON.stringify({ ...header, index: { bytes: index.length, sha256 }, parts: null, ...change });
    const sum = createHash('sha256').update(text).digest('hex').slice(0, 16);
    writeFileSync(join(path, 'features.json'), `{"checksum":"${sum}",${text.slice(1)}`);
    return path;
  }
  const sound = ['a', 'b', 'c'].map(entry);
  const CASES: [string, () => string, RegExp][] = [
    ['a name twice', () => hostile(Buffer.concat([entry('a'), entry('b'), entry('a')])), /features\.index: is damaged: it has the picture a twice/],
    ['a NUL', () => hostile(Buffer.concat([entry('a'), entry('b\0'), entry('c')])), /the name of picture 2 has a NUL/],
    ['a way out', () => hostile(Buffer.concat([entry('a'), entry('b'), entry('../c')])), /picture 3 leads out of the folder/],
    ['a way out within', () => hostile(Buffer.concat([entry('a/../../c'), entry('b'), entry('d')])), /picture 1 leads out of the folder/],
    ['an empty name', () => hostile(Buffer.concat([entry(''), entry('b'), entry('ccc')])), /picture 1 is empty/],
    ['no UTF-8', () => hostile(Buffer.concat([entry('a'), entry(Buffer.of(0xc3, 0x28)), entry('c')])), /picture 2 is no UTF-8/],
    ['a name beyond the end', () => hostile(Buffer.concat([...sound.slice(0, 2), entry('cc').subarray(0, 11)])), /it ends within a picture/],
    ['half a head', () => hostile(Buffer.concat([...sound.slice(0, 2), Buffer.alloc(5)]), { pictures: 2 }), /it has more than 2 pictures/],
    ['a name too long', () => hostile(Buffer.concat([...sound.slice(0, 2), entry('c'.repeat(5000))])), /a name is too long/],
    ['fewer pictures', () => hostile(Buffer.concat(sound), { pictures: 4 }), /for 4 pictures|has 3 pictures; 4 are expected/],
    ['more pictures', () => hostile(Buffer.concat(sound), { pictures: 2 }), /more than 2 pictures/],
    ['very many pictures', () => hostile(Buffer.concat(sound), { pictures: 2 ** 40 }), /bytes for 1099511627776 pictures/],
    [
      'a longer index than there is',
      () => hostile(Buffer.concat(sound), { index: { bytes: 2 ** 40, sha256: '0'.repeat(64) } }),
      /has 33 bytes, features\.json says/,
    ],
    ['a record without end', () => hostile(Buffer.concat(sound), { width: 2 ** 28, regions: 2 ** 20 }), /too large/],
    [
      'a part that is none of the cut',
      () => hostile(Buffer.concat(sound), { parts: [{ ...partsOf(at('hostile')).parts?.[0], of: 2, numbers: [3] }] }),
      /parts\.0/,
    ],
    [
      'a count of the parts that is not theirs',
      () => {
        const [part] = partsOf(at('hostile')).parts ?? [];
        return hostile(Buffer.concat(sound), { parts: [part], leftOut: ['z'] });
      },
      /its parts have 3 pictures, and it tells of 4/,
    ],
  ];
  test.each(CASES)('%s is refused', async (_name, path, error) => {
    make(fresh('hostile'), { files });
    await expect(FeatureStore.open(path())).rejects.toThrow(error);
  });

  test('a sound one of the same making is read', async () => {
    const store = await FeatureStore.open(hostile(Buffer.concat(sound)));
    expect([...store.files()]).toEqual(['a', 'b', 'c']);
    await store.close();
  });

  test('one cut short, and one that is not there', async () => {
    const path = make(fresh('hostile'), { files });
    truncateSync(join(path, 'features.index'), 5);
    await expect(FeatureStore.open(path)).rejects.toThrow(/has 5 bytes, features\.json says/);
    rmSync(join(path, 'features.index'));
    await expect(FeatureStore.open(path)).rejects.toThrow(/features\.index: no such file/);
  });
});

test('names that are none, and a picture twice, are not written', () => {
  const writer = FeatureWriter.open(at('bad names'), kind);
  for (const name of ['', 'a\0b', '../a', 'a/..', 'x'.repeat(5000), '../'.repeat(2000)])
    expect(() => writer.append([name], [record('1')])).toThrow(/the name of the picture/);
  writer.append(['..a', 'a..', 'ä/…'], [record('1'), record('1'), record('1')]);
  expect(() => writer.append(['a..'], [record('1')])).toThrow(/has features of "a\.\." already/);
  writer.close();
});

describe('the command line', () => {
  const made = captionerRun(folder);
  const RANK = ['OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE'];
  async function asRank(rank: number, size: number, ...args: string[]) {
    process.env[RANK[0]] = `${rank}`;
    process.env[RANK[1]] = `${size}`;
    const running = glimpse(...args);
    for (const name of RANK) delete process.env[name];
    return running;
  }

  test('processes of a launcher take a shard each, and train and merge take their folder', async () => {
    const { data, encoder, store } = await made.features();
    const out = at('launched');
    const args = ['features', '--data', data, '--encoder', encoder, '--preprocess', 'imagenet', '--skip-bad', '--out', out];
    const ranks = await Promise.all([0, 1].map((rank) => asRank(rank, 2, ...args)));
    for (const [rank, { code, stderr }] of ranks.entries()) {
      expect(code, stderr).toBe(0);
      expect(stderr).toMatch(
        new RegExp(`^process ${rank + 1} of 2 \\(Open MPI\\): shard ${rank + 1}/2, 9 of 18 pictures, into ${out}/shard-${rank + 1}-of-2$`, 'm'),
      );
    }
    expect(readdirSync(out).sort()).toEqual(['shard-1-of-2', 'shard-2-of-2']);
    expect(await contents(out)).toEqual(await contents(store));
    expect(await asRank(0, 3, ...args)).toMatchObject({ code: 1, stderr: expect.stringMatching(/launched holds shard-1-of-2, and this is shard 1\/3/) });
    expect(await glimpse(...args)).toMatchObject({ code: 1, stderr: expect.stringMatching(/launched holds shards side by side/) });
    const own = await asRank(1, 2, ...args.slice(0, -1), at('own'), '--shard', '1/6', '--json');
    expect(JSON.parse(own.stdout)).toMatchObject({ shard: '1/6', out: at('own'), pictures: 3 });

    const train = (run: string, ...features: string[]) =>
      glimpse('train', '--data', data, '--batch-images', '5', '--captions', '2', '--epochs', '1', '--quiet', '--out', at(run), '--features', ...features);
    expect(await train('run', join(out, 'shard-2-of-2'), join(out, 'shard-1-of-2'))).toMatchObject({ code: 0 });
    const evaluated = (...features: string[]) => glimpse('eval', at('run'), '--data', data, '--bootstrap', '0', '--json', '--features', ...features);
    expect(JSON.parse((await evaluated(out)).stdout)).toMatchObject({ images: 3 });
    cpSync(join(out, 'shard-1-of-2'), at('lonely', 'shard-1-of-2'), { recursive: true });
    expect(await train('no run', at('lonely'))).toMatchObject({ code: 1, stderr: expect.stringMatching(/shard 2\/2 is missing: 9 pictures/) });
    const allowed = await evaluated(at('lonely'), '--allow-missing');
    expect(JSON.parse(allowed.stdout)).toMatchObject({ images: 1, withoutFeatures: { count: 2 } });
    expect(allowed.stderr).toMatch(/^shard 2\/2 is missing: 9 pictures, as --allow-missing accepts$/m);
    mkdirSync(at('lonely', 'shard-2-of-2')); // a process that was killed at once
    expect(await train('no run', at('lonely'))).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/shard-2-of-2 are not finished; run `glimpse features` again/),
    });

    const report = await glimpse('merge', at('of launched'), out, '--json');
    expect(JSON.parse(report.stdout)).toMatchObject({ pictures: 17, stores: 2, skipped: ['9.jpg'], missing: { count: 0 } });
  });

  test('a shard without pictures is a finished store', async () => {
    const { data, encoder } = await made.features();
    const args = ['--data', data, '--encoder', encoder, '--preprocess', 'imagenet', '--split', 'val', '--shard', '64/64', '--out', at('none of val')];
    expect(await glimpse('features', ...args)).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(/^shard 64\/64 of 3 pictures has none: its store is empty$/m),
    });
    expect(await contents(at('none of val'))).toEqual({});
  });

  test('a shard killed before its first journal entry', async () => {
    mkdirSync(at('killed'));
    writeFileSync(at('killed', 'features.f32.partial'), '');
    for (const args of [
      ['merge', at('of killed'), at('killed')],
      ['train', '--data', (await made.features()).data, '--features', at('killed'), '--out', at('no run')],
    ])
      expect(await glimpse(...args)).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(/killed are not finished; run `glimpse features` again to complete them/),
      });
  });
});
