/** Writes Parquet files of one column of texts for tests, with whatever a hostile file may declare. Source: Parquet's parquet.thrift. */

type Field = [id: number, type: 'i32' | 'i64' | 'text' | 'list' | 'struct' | 'bool', value: unknown];

function varint(value: bigint): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return [...bytes, Number(rest)];
}

const zigzag = (value: number) => varint(value < 0 ? BigInt(-value) * 2n - 1n : BigInt(value) * 2n);
const TYPES = { i32: 5, i64: 6, text: 8, list: 9, struct: 12 };

function value(type: Field[1], of: unknown): number[] {
  if (type === 'i32' || type === 'i64') return zigzag(of as number);
  if (type === 'text') return [...varint(BigInt(Buffer.byteLength(of as string))), ...Buffer.from(of as string)];
  if (type === 'struct') return struct(of as Field[]);
  const { each, items, declared = items.length } = of as { each: Exclude<Field[1], 'bool'>; items: unknown[]; declared?: number };
  return [0xf0 | TYPES[each], ...varint(BigInt(declared)), ...items.flatMap((item) => value(each, item))];
}

/** A struct of Thrift's compact protocol. */
export function struct(fields: readonly Field[]): number[] {
  let last = 0;
  const bytes = fields.flatMap(([id, type, of]) => {
    const code = type === 'bool' ? (of ? 1 : 2) : TYPES[type];
    const head = ((id - last) << 4) | code;
    last = id;
    return type === 'bool' ? [head] : [head, ...value(type, of)];
  });
  return [...bytes, 0];
}

/** What a file declares; what is absent is as it should be for its page. */
export interface Declared {
  /** The bytes of the page, after decompression: values, and levels before them. */
  page: Uint8Array;
  /** Its bytes as they stand in the file. */
  stored?: Uint8Array;
  codec?: number;
  encoding?: number;
  rows?: number;
  rowsOfFile?: number;
  values?: number;
  valuesOfPage?: number;
  pageBytes?: number;
  storedBytes?: number;
  offset?: number;
  columnBytes?: number;
  type?: number;
  columnType?: number;
  optional?: boolean;
  filePath?: string;
  schemaLength?: number;
  dictionary?: boolean;
}

/** A file with one column `caption` in one row group and one page. */
export function parquetOf(d: Declared): Buffer {
  const { page, stored = page, codec = 0, encoding = 0, rows = 1, type = 6 } = d;
  const { rowsOfFile = rows, values = rows, valuesOfPage = values, pageBytes = page.length, storedBytes = stored.length } = d;
  const counts: Field[] = [
    [1, 'i32', valuesOfPage],
    [2, 'i32', encoding],
  ];
  const levels: Field[] = [
    [3, 'i32', 3],
    [4, 'i32', 3],
  ];
  const header = struct([
    [1, 'i32', d.dictionary ? 2 : 0],
    [2, 'i32', pageBytes],
    [3, 'i32', storedBytes],
    d.dictionary ? [7, 'struct', counts] : [5, 'struct', [...counts, ...levels]],
  ]);
  const chunk = Buffer.from([...header, ...stored]);
  const column: Field[] = [
    [1, 'i32', d.columnType ?? type],
    [2, 'list', { each: 'i32', items: [encoding] }],
    [3, 'list', { each: 'text', items: ['caption'] }],
    [4, 'i32', codec],
    [5, 'i64', values],
    [6, 'i64', header.length + pageBytes],
    [7, 'i64', d.columnBytes ?? chunk.length],
    [9, 'i64', d.offset ?? 4],
  ];
  const schema: Field[][] = [
    [
      [4, 'text', 'schema'],
      [5, 'i32', 1],
    ],
    [
      [1, 'i32', type],
      [3, 'i32', d.optional ? 1 : 0],
      [4, 'text', 'caption'],
      [6, 'i32', 0],
    ],
  ];
  const group: Field[] = [
    [1, 'list', { each: 'struct', items: [[...(d.filePath ? [[1, 'text', d.filePath] as Field] : []), [2, 'i64', 4], [3, 'struct', column]]] }],
    [2, 'i64', chunk.length],
    [3, 'i64', rows],
  ];
  const footer = Buffer.from(
    struct([
      [1, 'i32', 1],
      [2, 'list', { each: 'struct', items: schema, ...(d.schemaLength === undefined ? {} : { declared: d.schemaLength }) }],
      [3, 'i64', rowsOfFile],
      [4, 'list', { each: 'struct', items: [group] }],
    ]),
  );
  const length = Buffer.alloc(4);
  length.writeUInt32LE(footer.length);
  return Buffer.concat([Buffer.from('PAR1'), chunk, footer, length, Buffer.from('PAR1')]);
}

/** A text as PLAIN writes it. */
export function plainText(text: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(Buffer.byteLength(text));
  return Buffer.concat([length, Buffer.from(text)]);
}
