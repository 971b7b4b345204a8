/** The safetensors format, and hostile files in it. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readSafetensors, writeSafetensors } from '../src/data/safetensors.ts';
import { temporaryFolder } from './support.ts';

const folder = temporaryFolder();

describe('safetensors', () => {
  test('what is written reads back', () => {
    const path = join(folder, 'x.safetensors');
    writeSafetensors(
      path,
      new Map([
        ['a', { shape: [2, 2], data: new Float32Array([1, 2, 3, 4]) }],
        ['b', { shape: [1], data: new Uint32Array([7]) }],
      ]),
      { note: 'hi' },
    );
    const { metadata, tensors } = readSafetensors(path);
    expect(metadata).toEqual({ note: 'hi' });
    expect(tensors.get('a')).toEqual({ dtype: 'F32', shape: [2, 2], data: new Float32Array([1, 2, 3, 4]) });
    expect([...(tensors.get('b')?.data ?? [])]).toEqual([7]);
  });

  test('hostile headers are refused with the file’s name', () => {
    const file = (header: string, length = BigInt(header.length)): string => {
      const head = Buffer.alloc(8);
      head.writeBigUInt64LE(length);
      const path = join(folder, 'hostile.safetensors');
      writeFileSync(path, Buffer.concat([head, Buffer.from(header), Buffer.alloc(16)]));
      return path;
    };
    expect(() => readSafetensors(file('{}', 1n << 60n))).toThrow(/claims a header of/);
    expect(() => readSafetensors(file('{"a":'))).toThrow(/damaged header/);
    expect(() => readSafetensors(file('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}'))).toThrow(/tensor "a" \[2\] claims bytes 0…4/);
    expect(() => readSafetensors(file('{"a":{"dtype":"F32","shape":[1000],"data_offsets":[0,4000]}}'))).toThrow(/claims bytes/);
    expect(() => readSafetensors(file('{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}'))).toThrow(/is F16/);
    expect(() => readSafetensors(file('{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}'))).toThrow(/damaged entry/);
    writeFileSync(join(folder, 'short.safetensors'), 'abc');
    expect(() => readSafetensors(join(folder, 'short.safetensors'))).toThrow(/no safetensors file: 3 bytes/);
  });
});
