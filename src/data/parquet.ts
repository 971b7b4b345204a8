/**
 * Columns of text and of bytes from Parquet files, one row group at a time. hyparquet decodes them, and trusts what a file declares.
 * So what could make it reserve memory or run on is checked here first: footers, page headers, sizes, counts and runs.
 */
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import { type ColumnMetaData, type DecodedArray, type FileMetaData, type PageHeader, parquetMetadata, parquetSchema, type SchemaTree } from 'hyparquet';
import { parquetHeader, readPage } from 'hyparquet/src/column.js';
import { deltaBinaryUnpack } from 'hyparquet/src/delta.js';
import { compressors } from 'hyparquet-compressors';
import { FileError } from '../errors.ts';
import type { ByteSource } from './bytes.ts';
import { crc32c } from './crc32c.ts';
import { openFile } from './file_source.ts';
import { listed, problemOf, quoted } from './validation.ts';

const MAGIC = 0x31524150; // "PAR1"
const ENCRYPTED = 0x45524150; // "PARE"
const MAX_FOOTER = 64 * 2 ** 20;
/** Most bytes of a column in one row group, as stored and as read. A row group is held in memory. */
const MAX_COLUMN_BYTES = 2 ** 30;
/** Most values of a column in one row group. */
const MAX_VALUES = 2 ** 23;
const MAX_DEPTH = 32;

/** What a column holds: text, bytes, lists of texts, or the structs {bytes, path} that Hugging Face keeps pictures in. */
export type ColumnKind = 'text' | 'bytes' | 'texts' | 'picture';

export interface ParquetColumn {
  name: string;
  kind: ColumnKind;
  /** Where its values stand in the schema, by names. */
  leaf: string[];
}

export interface RowGroup {
  /** Number of its first row in the file, from 0. */
  start: number;
  rows: number;
}

/** An error whose message says what is wrong with a file; the file's name is put before it. */
class Damage extends Error {}

function varint(view: DataView, at: number): { value: number; end: number } {
  let value = 0;
  for (let i = 0; i < 10; i++) {
    if (at + i >= view.byteLength) throw new Damage('a number runs beyond its end');
    const byte = view.getUint8(at + i);
    if (i < 5) value += (byte & 0x7f) * 2 ** (7 * i);
    if (byte < 0x80) return { value, end: at + i + 1 };
  }
  throw new Damage('a number has more than ten bytes');
}

/** Checks a struct of Thrift's compact protocol: lengths and counts lie within the bytes. Returns where it ends. */
function structEnd(view: DataView, start: number, depth = 0): number {
  if (depth > MAX_DEPTH) throw new Damage(`its fields are nested more than ${MAX_DEPTH} times`);
  let at = start;
  for (;;) {
    if (at >= view.byteLength) throw new Damage('a struct runs beyond its end');
    const byte = view.getUint8(at++);
    if ((byte & 15) === 0) return at;
    if (byte >> 4 === 0) at = varint(view, at).end;
    at = valueEnd(view, at, byte & 15, depth);
  }
}

function valueEnd(view: DataView, at: number, type: number, depth: number): number {
  if (type === 1 || type === 2) return at;
  if (type === 3) return at + 1;
  if (type >= 4 && type <= 6) return varint(view, at).end;
  if (type === 7) return at + 8;
  if (type === 8) {
    const { value, end } = varint(view, at);
    if (end + value > view.byteLength) throw new Damage('a text runs beyond its end');
    return end + value;
  }
  if (type === 12) return structEnd(view, at, depth + 1);
  if (type !== 9) throw new Damage(`a field has the type ${type}, which Parquet does not use`);
  if (at >= view.byteLength) throw new Damage('a list runs beyond its end');
  const byte = view.getUint8(at++);
  let count = byte >> 4;
  if (count === 15) ({ value: count, end: at } = varint(view, at));
  const of = byte & 15;
  // Each element has a byte at least: truths in lists have one, too.
  if (count > view.byteLength - at) throw new Damage(`a list declares ${count} elements in ${view.byteLength - at} bytes`);
  for (let i = 0; i < count; i++) at = of === 1 || of === 2 ? at + 1 : valueEnd(view, at, of, depth + 1);
  return at;
}

const wholeIn = (value: unknown, most: number): value is number | bigint =>
  (typeof value === 'bigint' || Number.isSafeInteger(value)) && Number(value) >= 0 && Number(value) <= most;

const plain = (bytes: Uint8Array) => bytes;
const PARSERS = Object.fromEntries(
  ['timestampFromMilliseconds', 'timestampFromMicroseconds', 'timestampFromNanoseconds', 'dateFromDays', 'stringFromBytes', 'jsonFromBytes'].map((name) => [
    name,
    plain,
  ]),
);

/** Bytes that one byte of these codecs gives at most. Their decoders reserve what a page declares. */
const MOST_OF_BYTE: Partial<Record<ColumnMetaData['codec'], number>> = { SNAPPY: 32, LZ4: 256, LZ4_RAW: 256 };

/** A page's bytes, at most as many as its header declares. */
function decompressed(bytes: Uint8Array, length: number, codec: ColumnMetaData['codec']): Uint8Array {
  const decode = compressors[codec];
  if (codec === 'UNCOMPRESSED') return bytes;
  if (length === 0) return new Uint8Array(0);
  if (!decode) throw new Damage(`its codec ${codec} is not read; UNCOMPRESSED, SNAPPY, GZIP, ZSTD, BROTLI and LZ4 are`);
  if (length > 64 + bytes.length * (MOST_OF_BYTE[codec] ?? Infinity))
    throw new Damage(`a page of ${bytes.length} bytes declares ${length} behind its ${codec}`);
  const bounded = { maxOutputLength: length };
  if (codec === 'GZIP') return gunzipSync(bytes, bounded);
  if (codec === 'BROTLI') return brotliDecompressSync(bytes, bounded);
  if (codec === 'ZSTD') checkZstd(bytes, length);
  return decode(bytes, length);
}

/** A frame tells the size of its content, or of its window, which the decoder reserves. Source: RFC 8878, 3.1.1. */
function checkZstd(bytes: Uint8Array, length: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  let content = 0;
  while (at < bytes.length) {
    const magic = view.getUint32(at, true);
    if (magic >>> 4 === 0x184d2a5) {
      at += 8 + view.getUint32(at + 4, true); // a frame to be skipped
      continue;
    }
    if (magic !== 0xfd2fb528) throw new Damage('a page is no ZSTD');
    const head = view.getUint8(at + 4);
    const single = (head & 32) !== 0;
    at += 5;
    let window = 0;
    if (!single) {
      const descriptor = view.getUint8(at++);
      window = 2 ** (10 + (descriptor >> 3)) * (1 + (descriptor & 7) / 8);
    }
    at += [0, 1, 2, 4][head & 3];
    const field = head >> 6;
    if (field > 0 || single) {
      const size =
        field === 0
          ? view.getUint8(at)
          : field === 1
            ? view.getUint16(at, true) + 256
            : field === 2
              ? view.getUint32(at, true)
              : Number(view.getBigUint64(at, true));
      if (size > length) throw new Damage(`a page declares ${length} bytes, and its ZSTD ${size}`);
      at += field === 0 ? 1 : 2 ** field;
    }
    if (window > Math.max(2 ** 27, 2 * length)) throw new Damage(`a page needs a ZSTD window of ${window} bytes`);
    for (let last = false; !last; ) {
      const block = view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
      const size = block >> 3;
      const kind = (block >> 1) & 3;
      last = (block & 1) === 1;
      // A block of a repeated byte names its length, a compressed one gives 128 KiB at most.
      content += kind === 2 ? 0 : size;
      at += 3 + (kind === 1 ? 1 : size);
      if (content > length || (kind === 2 && size > 1 << 17)) throw new Damage(`a page declares ${length} bytes, and its ZSTD gives more`);
    }
    if (head & 4) at += 4;
  }
}

/** Checks runs of levels or of places in a dictionary: together they give `count` values and no more. Source: Parquet's "Encodings". */
function checkRuns(bytes: Uint8Array, from: number, to: number, width: number, count: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, to);
  if (width > 32) throw new Damage(`a page has places of ${width} bits`);
  let [at, seen] = [from, 0];
  while (seen < count) {
    const { value, end } = varint(view, at);
    const run = value >>> 1;
    const packed = (value & 1) === 1;
    if (value >= 2 ** 31) throw new Damage('a page has runs beyond its values');
    if (run === 0) throw new Damage('a page has a run of no length');
    seen += packed ? 8 * run : run;
    at = end + (packed ? run * width : Math.ceil(width / 8));
    // Runs are packed by eights, so the last may go on beyond the end, and its last bytes may be left out.
    if ((!packed && seen > count) || seen > count + 504 || at > to + (packed ? width : 0)) throw new Damage('a page has runs beyond its values');
  }
}

/** Lengths as differences. Blocks of a negative size would lead back. Source: Parquet's "Encodings", delta encoding. */
function deltaLengths(reader: { view: DataView; offset: number }, count: number): Int32Array {
  const block = varint(reader.view, reader.offset);
  const parts = varint(reader.view, block.end);
  if (block.value === 0 || block.value > 1 << 20 || parts.value === 0 || block.value % parts.value !== 0)
    throw new Damage(`a page has lengths in blocks of ${block.value}, cut into ${parts.value}`);
  const lengths = new Int32Array(count);
  deltaBinaryUnpack(reader, count, lengths);
  return lengths;
}

/** Checks values written as differences: of their lengths, and in DELTA_BYTE_ARRAY as what each shares with the one before it. */
function checkDeltas(page: Uint8Array, at: number, count: number, encoding: string): void {
  const reader = { view: new DataView(page.buffer, page.byteOffset, page.length), offset: at };
  const shared = encoding === 'DELTA_BYTE_ARRAY' ? deltaLengths(reader, count) : null;
  const own = deltaLengths(reader, count);
  let [bytes, before] = [0, 0];
  for (const [i, length] of own.entries()) {
    const taken = shared?.[i] ?? 0;
    if (length < 0 || taken < 0 || taken > before) throw new Damage('a page has values of no length, or ones that share more than there is');
    before = taken + length;
    bytes += before;
    if (bytes > MAX_COLUMN_BYTES) throw new Damage(`a page has values of more than ${MAX_COLUMN_BYTES} bytes`);
  }
}

const bitsOf = (level: number) => 32 - Math.clz32(level);

interface Levels {
  repetition: number;
  definition: number;
}

/** The page as one that is not compressed, with everything in it that names a length checked. */
function plainPage(
  bytes: Uint8Array,
  header: PageHeader,
  codec: ColumnMetaData['codec'],
  { repetition, definition }: Levels,
): { bytes: Uint8Array; header: PageHeader } {
  const { type, uncompressed_page_size: whole } = header;
  const places = (page: Uint8Array, at: number, count: number, encoding: string) => {
    if (encoding === 'PLAIN') return;
    if (encoding === 'DELTA_LENGTH_BYTE_ARRAY' || encoding === 'DELTA_BYTE_ARRAY') return checkDeltas(page, at, count, encoding);
    if (encoding !== 'RLE_DICTIONARY' && encoding !== 'PLAIN_DICTIONARY') throw new Damage(`a page is written as ${encoding}, which is no encoding of texts`);
    if (count > 0 && at >= page.length) throw new Damage('a page has no values');
    if (count > 0 && page[at] > 0) checkRuns(page, at + 1, page.length, page[at], count);
  };
  if (type === 'DATA_PAGE_V2' && header.data_page_header_v2) {
    const v2 = header.data_page_header_v2;
    const { repetition_levels_byte_length: r, definition_levels_byte_length: d, num_values: count, num_nulls: nulls } = v2;
    if (!wholeIn(r, bytes.length) || !wholeIn(d, bytes.length - r) || r + d > whole) throw new Damage('the levels of a page are longer than it');
    if (!wholeIn(nulls, count) || !wholeIn(v2.num_rows, count)) throw new Damage(`a page of ${count} values declares ${nulls} nulls, ${v2.num_rows} rows`);
    if (repetition > 0) checkRuns(bytes, 0, r, bitsOf(repetition), count);
    if (definition > 0) checkRuns(bytes, r, r + d, bitsOf(definition), count);
    const values = v2.is_compressed === false ? bytes.subarray(r + d) : decompressed(bytes.subarray(r + d), whole - r - d, codec);
    if (values.length !== whole - r - d) throw new Damage(`a page has ${values.length} bytes, its header declares ${whole - r - d}`);
    places(values, 0, count - nulls, v2.encoding);
    const page = new Uint8Array(whole);
    page.set(bytes.subarray(0, r + d));
    page.set(values, r + d);
    return { bytes: page, header: { ...header, compressed_page_size: whole, data_page_header_v2: { ...v2, is_compressed: false } } };
  }
  let page = decompressed(bytes, whole, codec);
  if (page.length !== whole) throw new Damage(`a page has ${page.length} bytes, its header declares ${whole}`);
  // A small page may lie in a pool of Node's, and the decoder takes the whole buffer.
  if (page.byteOffset > 0 || page.buffer.byteLength > page.length) page = Uint8Array.from(page);
  if (type === 'DATA_PAGE' && header.data_page_header) {
    const { num_values: count, encoding } = header.data_page_header;
    let at = 0;
    for (const level of [repetition, definition]) {
      if (level === 0) continue;
      if (at + 4 > page.length) throw new Damage('a page has no levels');
      const length = new DataView(page.buffer).getUint32(at, true);
      if (at + 4 + length > page.length) throw new Damage('the levels of a page are longer than it');
      checkRuns(page, at + 4, at + 4 + length, bitsOf(level), count);
      at += 4 + length;
    }
    places(page, at, count, encoding);
  }
  return { bytes: page, header: { ...header, compressed_page_size: whole } };
}

/** A column's kind by its schema; null for what is neither text nor bytes. */
function kindOf({ element, children }: SchemaTree): { kind: ColumnKind; leaf: string[] } | null {
  const { type, converted_type: converted, logical_type: logical, repetition_type: repetition, name } = element;
  if (children.length === 0) {
    if (type !== 'BYTE_ARRAY' || (logical && logical.type !== 'STRING') || (converted && converted !== 'UTF8')) return null;
    const isText = logical !== undefined || converted !== undefined;
    if (repetition === 'REPEATED') return isText ? { kind: 'texts', leaf: [name] } : null;
    return { kind: isText ? 'text' : 'bytes', leaf: [name] };
  }
  const [only] = children;
  if (children.length === 1 && only.element.repetition_type === 'REPEATED') {
    const of = only.children.length === 1 ? kindOf(only.children[0]) : kindOf({ ...only, element: { ...only.element, repetition_type: 'OPTIONAL' } });
    return of?.kind === 'text' ? { kind: 'texts', leaf: only.children.length === 1 ? [name, only.element.name, ...of.leaf] : [name, only.element.name] } : null;
  }
  if (repetition === 'REPEATED') return null;
  const bytes = children.find((child) => child.element.name === 'bytes');
  return bytes && kindOf(bytes)?.kind === 'bytes' ? { kind: 'picture', leaf: [name, 'bytes'] } : null;
}

/** A Parquet file whose footer was checked. It holds no file open. */
export class ParquetFile {
  readonly columns: readonly ParquetColumn[];
  /** Names of the other columns, whose values are not read here. */
  readonly others: readonly string[];
  readonly groups: readonly RowGroup[];
  readonly rows: number;

  private constructor(
    readonly path: string,
    readonly bytes: number,
    /** CRC-32C of the footer, which tells whether the file is still the same. */
    readonly footer: number,
    private readonly metadata: FileMetaData,
  ) {
    for (const { name, num_children: children } of metadata.schema)
      if (typeof name !== 'string' || (children !== undefined && !wholeIn(children, metadata.schema.length)))
        throw new Damage('a column of its schema has no name');
    const tree = parquetSchema(metadata);
    const names = new Set<string>();
    for (const { element } of tree.children) {
      if (names.has(element.name)) throw new Damage(`the column ${quoted(element.name)} is there twice: which one counts is not decided`);
      names.add(element.name);
    }
    const known = tree.children.map((child) => ({ name: child.element.name, ...kindOf(child) }));
    this.columns = known.filter((column): column is ParquetColumn => column.kind !== undefined);
    this.others = known.filter(({ kind }) => kind === undefined).map(({ name }) => name);
    let start = 0;
    this.groups = metadata.row_groups.map(({ num_rows }, i) => {
      if (!wholeIn(num_rows, MAX_VALUES))
        throw new Damage(`row group ${i} declares ${num_rows} rows; ${MAX_VALUES} are the most that is read, write smaller row groups`);
      start += Number(num_rows);
      return { start: start - Number(num_rows), rows: Number(num_rows) };
    });
    this.rows = start;
    if (BigInt(start) !== metadata.num_rows) throw new Damage(`its row groups have ${start} rows, its footer declares ${metadata.num_rows}`);
  }

  /** Reads the footer. Throws a FileError if the file is no Parquet file, or cut off, or encrypted, or declares what cannot be. */
  static open(path: string): ParquetFile {
    const file = openFile(path);
    try {
      const { footer, start } = footerOf(file);
      const view = new DataView(footer.buffer, 0, footer.length - 8);
      structEnd(view, 0);
      const metadata = parquetMetadata(footer.buffer, { geoparquet: false, parsers: PARSERS });
      const made = new ParquetFile(path, file.size, crc32c(footer), metadata);
      for (const { columns } of metadata.row_groups)
        for (const { file_path, meta_data: column } of columns) {
          if (file_path || !column) throw new Damage('keeps a column in another file, which is not read');
          const [from, length] = [column.dictionary_page_offset || column.data_page_offset, column.total_compressed_size];
          if (!wholeIn(from, start) || !wholeIn(length, start - Number(from)) || !wholeIn(column.num_values, Number.MAX_SAFE_INTEGER))
            throw new Damage(`declares the column ${quoted(column.path_in_schema.join('.'))} at byte ${from} with ${length} bytes, outside of its data`);
        }
      return made;
    } catch (error) {
      throw error instanceof FileError ? error : new FileError(path, `is no sound Parquet file: ${problemOf(error)}`);
    } finally {
      file.close();
    }
  }

  /** The group that a row is in. */
  groupOf(row: number): number {
    let [low, high] = [0, this.groups.length];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.groups[middle].start <= row) low = middle;
      else high = middle;
    }
    return low;
  }

  private chunk(group: number, { leaf }: ParquetColumn): ColumnMetaData {
    const found = this.metadata.row_groups[group].columns.find(
      ({ meta_data }) => meta_data && meta_data.path_in_schema.join('\0') === leaf.join('\0'),
    )?.meta_data;
    if (!found) throw new FileError(this.path, `row group ${group} has no column ${quoted(leaf.join('.'))}`);
    return found;
  }

  /** The values of a column in a row group, a list for each row; null stands for a value that is null. Throws a FileError. */
  read(group: number, column: ParquetColumn): (Uint8Array | null)[][] {
    return this.readSized(group, column).rows;
  }

  /** As `read`, with the bytes of memory that its pages take. */
  readSized(group: number, column: ParquetColumn): { rows: (Uint8Array | null)[][]; bytes: number } {
    const meta = this.chunk(group, column);
    const file = openFile(this.path);
    try {
      if (file.size !== this.bytes) throw new Damage('has changed while it was read');
      return this.decoded(group, column, meta, file);
    } catch (error) {
      if (error instanceof FileError) throw error;
      throw new FileError(this.path, `row group ${group}, column ${quoted(column.leaf.join('.'))}: ${problemOf(error)}`);
    } finally {
      file.close();
    }
  }

  private decoded(group: number, { leaf }: ParquetColumn, meta: ColumnMetaData, file: ByteSource): { rows: (Uint8Array | null)[][]; bytes: number } {
    for (const size of [meta.total_compressed_size, meta.total_uncompressed_size, meta.num_values])
      if (!wholeIn(size, size === meta.num_values ? MAX_VALUES : MAX_COLUMN_BYTES))
        throw new Damage(
          `it declares ${meta.num_values} values in ${meta.total_uncompressed_size} bytes; ${MAX_VALUES} and ${MAX_COLUMN_BYTES} are the most, write smaller row groups`,
        );
    const schemaPath = [parquetSchema(this.metadata)];
    for (const name of leaf) schemaPath.push(schemaPath[schemaPath.length - 1].children.find(({ element }) => element.name === name) as SchemaTree);
    const within = schemaPath.slice(1).map(({ element }) => element.repetition_type);
    const levels = { repetition: within.filter((each) => each === 'REPEATED').length, definition: within.filter((each) => each !== 'REQUIRED').length };
    const element = schemaPath[schemaPath.length - 1].element;
    const decoder = { ...{ pathInSchema: leaf, type: meta.type, element, schemaPath, codec: 'UNCOMPRESSED' as const, utf8: false }, parsers: PARSERS as never };
    if (meta.type !== 'BYTE_ARRAY') throw new Damage(`its values are ${meta.type}, and its schema says BYTE_ARRAY`);
    const bytes = file.read(Number(meta.dictionary_page_offset || meta.data_page_offset), Number(meta.total_compressed_size));
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const chunks: DecodedArray[] = [];
    let dictionary: DecodedArray | undefined;
    let last: DecodedArray | undefined;
    let [at, values, size] = [0, 0, 0];
    while (values < Number(meta.num_values)) {
      structEnd(view, at);
      const reader = { view, offset: at };
      const header = parquetHeader(reader);
      const { type, compressed_page_size: stored, uncompressed_page_size: whole } = header;
      const count = (type === 'DICTIONARY_PAGE' ? header.dictionary_page_header : type === 'DATA_PAGE' ? header.data_page_header : header.data_page_header_v2)
        ?.num_values;
      if (!wholeIn(stored, bytes.length - reader.offset)) throw new Damage(`a page of ${stored} bytes does not fit into its column`);
      if (!wholeIn(whole, MAX_COLUMN_BYTES - size)) throw new Damage(`its pages have more than ${MAX_COLUMN_BYTES} bytes; write smaller row groups`);
      if (!wholeIn(count, type === 'DICTIONARY_PAGE' ? MAX_VALUES : Number(meta.num_values) - values)) throw new Damage(`a page declares ${count} values`);
      const page = plainPage(bytes.subarray(reader.offset, reader.offset + stored), header, meta.codec, levels);
      const result = readPage(
        { view: new DataView(page.bytes.buffer, page.bytes.byteOffset, page.bytes.length), offset: 0 },
        page.header,
        decoder,
        dictionary,
        last,
        0,
      );
      at = reader.offset + stored;
      size += whole;
      if (type === 'DICTIONARY_PAGE') dictionary = result.data;
      else {
        values += count;
        // A row of a list may go on in the next page; then the decoder adds to what it gave before.
        if (result.data && result.data !== last) chunks.push(result.data);
        last = result.data;
      }
    }
    const rows = chunks.flatMap((chunk) => Array.from(chunk as ArrayLike<unknown>, (row) => valuesOf(row)));
    const declared = this.groups[group].rows;
    if (rows.length !== declared) throw new Damage(`it has ${rows.length} rows, ${declared} are declared`);
    return { rows, bytes: size };
  }
}

/** The bytes in a row, whatever lists and structs they stand in. */
function valuesOf(row: unknown): (Uint8Array | null)[] {
  if (Array.isArray(row)) return row.flatMap(valuesOf);
  if (row instanceof Uint8Array) return [row];
  if (row === null || row === undefined) return [null];
  throw new Damage('a value is neither bytes nor null');
}

function footerOf(file: ByteSource): { footer: Uint8Array<ArrayBuffer>; start: number } {
  const end = file.read(Math.max(0, file.size - 8), 8);
  const view = new DataView(end.buffer, end.byteOffset, end.length);
  if (end.length < 8 || view.getUint32(4, true) !== MAGIC) {
    const encrypted = end.length === 8 && view.getUint32(4, true) === ENCRYPTED;
    throw new Damage(encrypted ? 'it is encrypted' : 'it does not end with PAR1, so it may be cut off or of another kind');
  }
  const length = view.getUint32(0, true);
  if (length + 12 > file.size) throw new Damage(`its footer has ${length} bytes by its last ones, and the file ${file.size}`);
  if (length > MAX_FOOTER) throw new Damage(`its footer has ${length} bytes; ${MAX_FOOTER} are the most that is read`);
  const start = file.size - 8 - length;
  return { footer: Uint8Array.from(file.read(start, length + 8)), start };
}

/** The column of that name, of one of the kinds. Throws a FileError that lists what is there. */
export function columnOf(file: ParquetFile, name: string, kinds: readonly ColumnKind[]): ParquetColumn {
  const found = file.columns.find((column) => column.name === name);
  if (found && kinds.includes(found.kind)) return found;
  const what = found ? `holds ${found.kind}` : file.others.includes(name) ? 'is neither text nor bytes' : 'is not there';
  throw new FileError(file.path, `the column ${quoted(name)} ${what}; ${kinds.join(' or ')} is expected. The columns there are ${columnsText(file)}`);
}

/** The columns with what they hold, for messages. */
export const columnsText = ({ columns, others }: ParquetFile): string =>
  listed([...columns.map(({ name, kind }) => `${name} (${kind})`), ...others.map((name) => `${name} (other)`)]);
