/** TensorBoard event files. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { EventFile, maskedCrc } from '../src/data/event_file.ts';
import { temporaryFolder, useGpu } from './support.ts';

useGpu();

const folder = temporaryFolder();

test('an event file holds what was written, record by record, and goes on where it was cut', () => {
  // CRC-32C of "123456789" is e3069283 (RFC 3720, B.4); records rotate it right by 15 and add a constant.
  expect(maskedCrc(Buffer.from('123456789'))).toBe(Number(((0xe3069283n >> 15n) + ((0xe3069283n << 17n) & 0xffffffffn) + 0xa282ead8n) & 0xffffffffn));
  const path = join(folder, 'events');
  const first = new EventFile(path, 0);
  first.scalars(1, { loss: 2.5, nothing: null });
  const cut = first.file.bytes;
  first.scalars(2, { loss: 99 });
  first.file.close();
  const second = new EventFile(path, cut);
  second.scalars(2, { loss: 1.5 });
  second.file.close();
  const bytes = readFileSync(path);
  const found: { tag: string; value: number; step: number }[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at));
    expect(bytes.readUInt32LE(at + 8)).toBe(maskedCrc(bytes.subarray(at, at + 8)));
    const event = bytes.subarray(at + 12, at + 12 + length);
    expect(bytes.readUInt32LE(at + 12 + length)).toBe(maskedCrc(event));
    at += length + 16;
    if (event[9] !== 16) continue; // field 2, the step; the first record names the version
    // 9 bytes of wall time, 2 of step, 2 of summary, 2 of value, then the tag with its key and length, and the number with its key.
    const tag = event.subarray(17, 17 + event[16]).toString();
    found.push({ tag, value: event.readFloatLE(event.length - 4), step: event[10] });
  }
  expect(found).toEqual([
    { tag: 'loss', value: 2.5, step: 1 },
    { tag: 'loss', value: 1.5, step: 2 },
  ]);
});
