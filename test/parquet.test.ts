/** Parquet files as others write them, in every codec and form, and what a hostile one may declare. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { deflateRawSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { columnOf, ParquetFile } from '../src/data/parquet.ts';
import { FileError } from '../src/errors.ts';
import { type Declared, parquetOf, plainText } from './parquet_writer.ts';
import { temporaryFolder } from './support.ts';

const folder = temporaryFolder();
const FIXTURES = join(import.meta.dirname, 'parquet');

/** Everything that a file holds: each column with its rows, over all row groups; texts as texts, pictures by their sizes. */
function contents(path: string): Record<string, (string | number | null)[][]> {
  const file = ParquetFile.open(path);
  const shown = (kind: string, value: Uint8Array | null) => (value === null ? null : kind.startsWith('text') ? Buffer.from(value).toString() : value.length);
  return Object.fromEntries(
    file.columns.map((column) => [
      column.name,
      file.groups.flatMap((_, group) => file.read(group, column).map((row) => row.map((value) => shown(column.kind, value)))),
    ]),
  );
}

const COLORS = Array.from({ length: 8 }, (_, i) => ['red', 'green', 'blue'][i % 3]);
const captions = COLORS.map((color) => [`A ${color} picture.`]);
const lists = COLORS.map((color) => [`A ${color} picture.`, `${color} all over`]);
const sizes = [100, 100, 102, 103, 104, 108, 106, 106].map((size) => [size]);
const splits = Array.from({ length: 8 }, (_, i) => [i % 4 === 3 ? 'val' : 'train']);

describe('files of pyarrow', () => {
  test.each<[string, Record<string, (string | number | null)[][]>, number]>([
    ['snappy', { image: sizes, caption: captions, split: splits }, 3],
    ['zstd', { jpg: sizes, text: captions }, 3],
    ['gzip', { image: sizes, captions: lists }, 3],
    ['brotli', { image: sizes, caption: captions }, 3],
    ['lz4', { image: sizes, caption: captions }, 3],
    ['plain', { image: sizes, caption: captions }, 3],
    ['dictionary', { image: sizes, caption: COLORS.map(() => ['A red picture.']) }, 3],
    ['pages', { image: sizes, captions: lists }, 1],
    ['names', { file_name: COLORS.map((_, i) => [`${i}.jpg`]), captions: lists, split: splits }, 3],
    ['delta', { image: sizes, caption: captions, captions: lists }, 1],
    ['large', { image: sizes, captions: lists }, 3],
    ['nulls', { image: [[100], [100], [], [null], ...sizes.slice(4)], captions: [lists[0], [], [], [null, ...lists[3]], ...lists.slice(4)] }, 3],
  ])('%s', (name, expected, groups) => {
    const path = join(FIXTURES, `${name}.parquet`);
    expect(contents(path)).toEqual(expected);
    expect(ParquetFile.open(path).groups).toHaveLength(groups);
  });

  test('columns of numbers are listed and not read', () => {
    const snappy = ParquetFile.open(join(FIXTURES, 'snappy.parquet'));
    expect(snappy.others).toEqual(['width']);
    expect(snappy.groups.map(({ start, rows }) => [start, rows])).toEqual([
      [0, 3],
      [3, 3],
      [6, 2],
    ]);
    expect([0, 2, 3, 5, 6, 7].map((row) => snappy.groupOf(row))).toEqual([0, 0, 1, 1, 2, 2]);
    expect(() => columnOf(snappy, 'width', ['text'])).toThrow(
      /snappy\.parquet: the column "width" is neither text nor bytes; text is expected\. The columns there are "image \(picture\)", .*"width \(other\)"/,
    );
    expect(() => columnOf(snappy, 'caption', ['bytes', 'picture'])).toThrow(/the column "caption" holds text; bytes or picture is expected/);
    expect(() => columnOf(snappy, 'jpg', ['bytes'])).toThrow(/the column "jpg" is not there/);
  });
});

const ONE = plainText('hello');
const ok: Declared = { page: ONE };

function writeParquet(bytes: Uint8Array): string {
  const path = join(folder, 'x.parquet');
  writeFileSync(path, bytes);
  return path;
}

/** A run of levels that claims a length. */
const run = (length: number, byte: number): number[] => {
  const bytes: number[] = [];
  let rest = 2 * length;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest & 127) | 128);
  return [...bytes, rest, byte];
};
const withLevels = (levels: number[], values: Uint8Array) => Buffer.concat([Buffer.from([levels.length, 0, 0, 0, ...levels]), values]);
/** A ZSTD frame of blocks of one repeated byte. */
const zstdRuns = (blocks: number, size: number) =>
  Buffer.from([
    0x28,
    0xb5,
    0x2f,
    0xfd,
    0x00,
    0x58,
    ...Array.from({ length: blocks }, (_, i) => [((size << 3) | 2 | (i === blocks - 1 ? 1 : 0)) & 255, (size >> 5) & 255, (size >> 13) & 255, 65]).flat(),
  ]);

/** Values that each share all of the one before, and have a byte of their own: their bytes grow with the square of their count. */
function sharing(rows: number): Declared {
  const zigzag = (value: number) => run(value, 0).slice(0, -1); // 2 · value as a varint
  const lengths = (first: number, delta: number) => {
    const blocks = Array.from({ length: Math.ceil((rows - 1) / 128) }, () => [...zigzag(delta), 0, 0, 0, 0]);
    return [0x80, 1, 4, ...zigzag(rows), ...zigzag(first), ...blocks.flat()];
  };
  return { page: Buffer.concat([Buffer.from([...lengths(0, 1), ...lengths(1, 0)]), Buffer.alloc(rows, 65)]), encoding: 7, rows };
}

describe('what a file declares is checked before memory is reserved for it', () => {
  test('a sound file of this writer is read', () => {
    expect(contents(writeParquet(parquetOf(ok)))).toEqual({ caption: [['hello']] });
    expect(contents(writeParquet(parquetOf({ page: withLevels(run(2, 1), Buffer.concat([ONE, ONE])), rows: 2, optional: true })))).toEqual({
      caption: [['hello'], ['hello']],
    });
    expect(contents(writeParquet(parquetOf({ page: ONE, stored: gzipSync(ONE), codec: 2 })))).toEqual({ caption: [['hello']] });
    expect(contents(writeParquet(parquetOf(sharing(300)))).caption[299]).toEqual(['A'.repeat(300)]);
    const zeros = Buffer.concat([Buffer.from([65, 0, 0, 0]), Buffer.alloc(65, 65)]);
    expect(contents(writeParquet(parquetOf({ page: zeros })))).toEqual({ caption: [['A'.repeat(65)]] });
  });

  test.each<[string, Uint8Array, RegExp]>([
    ['no Parquet file', Buffer.from('no parquet file at all'), /is no sound Parquet file: it does not end with PAR1, so it may be cut off/],
    ['empty', new Uint8Array(0), /does not end with PAR1/],
    ['cut off', parquetOf(ok).subarray(0, 90), /does not end with PAR1/],
    ['encrypted', Buffer.concat([parquetOf(ok).subarray(0, -4), Buffer.from('PARE')]), /it is encrypted/],
    [
      'a footer larger than the file',
      Buffer.concat([parquetOf(ok).subarray(0, -8), Buffer.from([0xff, 0xff, 0xff, 0x7f]), Buffer.from('PAR1')]),
      /its footer has 2147483647 bytes by its last ones/,
    ],
    [
      'a footer that begins elsewhere',
      Buffer.concat([parquetOf(ok).subarray(0, -8), Buffer.from([7, 0, 0, 0]), Buffer.from('PAR1')]),
      /is no sound Parquet file/,
    ],
    ['a list of 2^31 columns', parquetOf({ ...ok, schemaLength: 2 ** 31 - 1 }), /a list declares 2147483647 elements in \d+ bytes/],
    ['rows of the file and its groups', parquetOf({ ...ok, rowsOfFile: 5 }), /its row groups have 1 rows, its footer declares 5/],
    ['a billion rows', parquetOf({ ...ok, rows: 1e9 }), /row group 0 declares 1000000000 rows; 8388608 are the most that is read, write smaller row groups/],
    ['a negative count of rows', parquetOf({ ...ok, rows: -1 }), /row group 0 declares -1 rows/],
    ['a column outside of the file', parquetOf({ ...ok, offset: 1e12 }), /declares the column "caption" at byte 1000000000000 .* outside of its data/],
    ['a column of a terabyte', parquetOf({ ...ok, columnBytes: 1e12 }), /declares the column "caption" at byte 4 with 1000000000000 bytes/],
    ['a column in another file', parquetOf({ ...ok, filePath: '/etc/passwd' }), /keeps a column in another file/],
    ['a page of a gigabyte', parquetOf({ ...ok, pageBytes: 2 ** 30 + 1 }), /declares .* values in .* bytes|have more than 1073741824 bytes/],
    ['a page beyond its column', parquetOf({ ...ok, storedBytes: 1000 }), /row group 0, column "caption": a page of 1000 bytes does not fit into its column/],
    ['a page of another size than declared', parquetOf({ ...ok, pageBytes: 1000 }), /a page has 9 bytes, its header declares 1000/],
    ['a page with more values than its column', parquetOf({ ...ok, valuesOfPage: 2 ** 30 }), /a page declares 1073741824 values/],
    ['a negative count of values', parquetOf({ ...ok, valuesOfPage: -1 }), /a page declares -1 values/],
    ['more values than bytes', parquetOf({ ...ok, rows: 1000 }), /row group 0, column "caption": /],
    ['a page of no values for ever', parquetOf({ ...ok, valuesOfPage: 0 }), /row group 0, column "caption": /],
    ['fewer rows than declared', parquetOf({ page: withLevels(run(1, 1), ONE), optional: true, rows: 2, values: 1 }), /it has 1 rows, 2 are declared/],
    ['a run of 2^30 levels', parquetOf({ page: withLevels(run(2 ** 30, 1), ONE), optional: true }), /a page has runs beyond its values/],
    ['a run of no length', parquetOf({ page: withLevels([0, 0], ONE), optional: true }), /a page has a run of no length/],
    ['levels beyond the page', parquetOf({ page: Buffer.from([200, 0, 0, 0, 2, 1]), optional: true }), /the levels of a page are longer than it/],
    ['a run of 2^30 places', parquetOf({ page: Buffer.from([1, ...run(2 ** 30, 0)]), encoding: 8 }), /a page has runs beyond its values/],
    ['places of 200 bits', parquetOf({ page: Buffer.from([200, 2, 0]), encoding: 8 }), /a page has places of 200 bits/],
    ['places without a dictionary', parquetOf({ page: Buffer.from([1, 2, 1]), encoding: 8 }), /a value is neither bytes nor null|row group 0/],
    ['a text beyond its page', parquetOf({ page: Buffer.from([255, 255, 255, 127, 65]) }), /row group 0, column "caption": /],
    ['an encoding of numbers', parquetOf({ ...ok, encoding: 5 }), /a page is written as DELTA_BINARY_PACKED, which is no encoding of texts/],
    [
      'deltas in blocks of a negative size',
      parquetOf({ page: Buffer.from([0x80, 0xff, 0xff, 0xff, 0x0f, 4, 9, 0, 0, 8, 8, 8, 8]), encoding: 6, rows: 9 }),
      /a page has lengths in blocks of 4294967168, cut into 4/,
    ],
    ['deltas in blocks of nothing', parquetOf({ page: Buffer.from([0x80, 1, 0, 1, 0, 0]), encoding: 6 }), /a page has lengths in blocks of 128, cut into 0/],
    [
      'a negative length',
      parquetOf({ page: Buffer.from([0x80, 1, 4, 1, 3, 65, 65]), encoding: 6 }),
      /values of no length, or ones that share more than there is/,
    ],
    [
      'a value that shares more than there is',
      parquetOf({ page: Buffer.from([0x80, 1, 4, 1, 8, 0x80, 1, 4, 1, 2, 65]), encoding: 7 }),
      /share more than there is/,
    ],
    ['values that grow by sharing', parquetOf(sharing(60_000)), /a page has values of more than 1073741824 bytes/],
    ['only a dictionary', parquetOf({ ...ok, dictionary: true }), /row group 0, column "caption": /],
    ['numbers where texts are declared', parquetOf({ ...ok, columnType: 1 }), /its values are INT32, and its schema says BYTE_ARRAY/],
    ['a codec that nobody has', parquetOf({ ...ok, codec: 3 }), /its codec LZO is not read/],
    ['GZIP with more than it declares', parquetOf({ page: ONE, stored: gzipSync(Buffer.alloc(1 << 20)), codec: 2 }), /row group 0, column "caption": /],
    ['GZIP that is none', parquetOf({ page: ONE, stored: deflateRawSync(ONE), codec: 2 }), /row group 0, column "caption": /],
    ['SNAPPY that is none', parquetOf({ page: ONE, stored: Buffer.from([255, 255, 255, 255, 7, 1, 1]), codec: 1 }), /row group 0, column "caption": /],
    ['BROTLI that is none', parquetOf({ page: ONE, stored: Buffer.from([255, 255, 255]), codec: 4 }), /row group 0, column "caption": /],
    ['LZ4 that is none', parquetOf({ page: ONE, stored: Buffer.from([255, 255, 255]), codec: 7 }), /row group 0, column "caption": /],
    [
      'SNAPPY of a hundred megabytes in five',
      parquetOf({ page: ONE, pageBytes: 1e8, stored: Buffer.alloc(5), codec: 1 }),
      /a page of 5 bytes declares 100000000 behind its SNAPPY/,
    ],
    [
      'LZ4 of a hundred megabytes in five',
      parquetOf({ page: ONE, pageBytes: 1e8, stored: Buffer.alloc(5), codec: 7 }),
      /a page of 5 bytes declares 100000000 behind its LZ4_RAW/,
    ],
    ['ZSTD that is none', parquetOf({ page: ONE, stored: Buffer.from([1, 2, 3, 4, 5]), codec: 6 }), /a page is no ZSTD/],
    ['ZSTD that gives gigabytes', parquetOf({ page: ONE, stored: zstdRuns(20_000, 131_071), codec: 6 }), /a page declares 9 bytes, and its ZSTD gives more/],
  ])('%s', (_, bytes, message) => {
    const path = writeParquet(bytes);
    const before = process.memoryUsage().arrayBuffers;
    expect(() => contents(path)).toThrow(FileError);
    expect(() => contents(path)).toThrow(message);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 28);
  });

  test.each(readdirSync(FIXTURES).filter((name) => name.endsWith('.parquet')))('%s with any bytes changed is read or refused, and ends', (name) => {
    const whole = readFileSync(join(FIXTURES, name));
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat({ max: whole.length - 1 }), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 3 }), (changes) => {
        const bytes = Buffer.from(whole);
        for (const [at, value] of changes) bytes[at] = value;
        try {
          contents(writeParquet(bytes));
        } catch (error) {
          expect(error, String((error as Error).stack)).toBeInstanceOf(FileError);
        }
      }),
      { numRuns: 150 },
    );
  });
});
