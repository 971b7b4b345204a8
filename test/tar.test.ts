/** Tars as they come: every form of a name, and everything that a hostile or broken one may say. */
import { appendFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bytesAsSource } from '../src/data/bytes.ts';
import { openFile } from '../src/data/file_source.ts';
import { memberAt, readTar } from '../src/data/tar.ts';
import { FileError } from '../src/errors.ts';
import { temporaryFolder } from './support.ts';
import { type Member, patched, tarOf } from './tar_writer.ts';

const folder = temporaryFolder();

/** Names with their contents, and what was passed over. */
function listed(bytes: Uint8Array): { found: [string, string][]; passedOver: [string, string][] } {
  const passedOver: [string, string][] = [];
  const source = bytesAsSource('x.tar', bytes);
  const { members, bytes: dataOf } = readTar(source, (name, why) => passedOver.push([name, why]));
  const found = [...members].map((member): [string, string] => {
    expect(Buffer.from(memberAt(source, member, member.name))).toEqual(Buffer.from(dataOf(member, 1 << 20)));
    return [member.name, Buffer.from(dataOf(member, 1 << 20)).toString()];
  });
  return { found, passedOver };
}

test('members of any length come back, whatever their names need', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(fc.stringMatching(/^[a-zé][a-z0-9é]{0,150}$/), fc.string({ maxLength: 1200 })), { maxLength: 6 }), async (parts) => {
      const members = parts.map(([name, data], i) => ({ name: `${i}/${name}.txt`, data }));
      expect(listed(await tarOf(members))).toEqual({ found: members.map(({ name, data }) => [name, Buffer.from(data).toString()]), passedOver: [] });
    }),
    { numRuns: 40 },
  );
});

test('a size that only the extended header has counts', async () => {
  const plain = await tarOf([{ name: 'a.txt', data: 'seven 7', pax: { size: '7' } }]);
  expect(listed(patched(plain, 2, 124, '00000000003')).found).toEqual([['a.txt', 'seven 7']]);
});

test('what is no ordinary file within the tar is passed over, with its cause', async () => {
  const cases: [Member, string][] = [
    [{ name: '../out.jpg', data: 'x' }, 'its name leads out of the tar'],
    [{ name: 'a/../../out.jpg', data: 'x' }, 'its name leads out of the tar'],
    [{ name: '/etc/out.jpg', data: 'x' }, 'its name leads out of the tar'],
    [{ name: 'a\\out.jpg', data: 'x' }, 'its name leads out of the tar'],
    [{ name: 'a\u0007.jpg', data: 'x' }, 'its name has control characters'],
    [{ name: 'x', data: 'x', pax: { path: 'a\0b.jpg' } }, 'its name has control characters'],
    [{ name: 's.jpg', type: 'symlink', linkname: '/etc/passwd' }, 'a link'],
    [{ name: 'l.jpg', type: 'link', linkname: 'a.jpg' }, 'a link'],
    [{ name: 'p.jpg', type: 'fifo' }, 'a pipe'],
    [{ name: 'd.jpg', type: 'character-device' }, 'a device'],
    [{ name: 'GNUSparseFile.0/s.jpg', data: 'x', pax: { 'GNU.sparse.major': '1' } }, 'a sparse file'],
  ];
  const { found, passedOver } = listed(
    await tarOf([{ name: './in', type: 'directory' }, ...cases.map(([member]) => member), { name: './in/a.jpg', data: 'x' }]),
  );
  expect(found).toEqual([['in/a.jpg', 'x']]);
  expect(passedOver.map(([, why]) => why)).toEqual(cases.map(([, why]) => why));
});

test('a second tar behind the first is read too', async () => {
  const [one, two] = await Promise.all([tarOf([{ name: 'a.txt', data: '1' }]), tarOf([{ name: 'b.txt', data: '2' }])]);
  expect(listed(Buffer.concat([one, two])).found).toEqual([
    ['a.txt', '1'],
    ['b.txt', '2'],
  ]);
});

describe('damage is refused with its place', async () => {
  const whole = await tarOf([
    { name: 'a.txt', data: 'x'.repeat(700) },
    { name: 'b.txt', data: 'y' },
  ]);
  test.each<[string, Uint8Array, RegExp]>([
    ['cut within a header', whole.subarray(0, 1700), /x\.tar: is cut off within a header \(header at byte 1536\)/],
    ['cut within a member', whole.subarray(0, 1000), /is cut off within "a\.txt": 700 bytes are declared, 488 are left \(header at byte 0\)/],
    ['cut between members', whole.subarray(0, 1536), /ends without the mark of a tar’s end: it may be cut off/],
    ['no tar at all', Buffer.from('no tar'.repeat(200)), /is no tar, or damaged/],
    ['empty', new Uint8Array(0), /ends without the mark/],
    ['a changed header', Buffer.concat([whole.subarray(0, 1540), Buffer.from('!'), whole.subarray(1541)]), /no tar, or damaged: .*\(header at byte 1536\)/],
    ['a huge size', patched(whole, 0, 124, '77777777777'), /cut off within "a\.txt": 8589934591 bytes are declared/],
    ['a negative size', patched(whole, 0, 124, '\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00'), /declares a size that is no number of bytes/],
    ['a size beyond 2^53', patched(whole, 0, 124, '\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00'), /declares a size that is no number of bytes/],
    ['a size that is no number', patched(whole, 0, 124, 'zzzz       '), /declares a size that is no number of bytes/],
    ['a name of a gigabyte', patched(patched(whole, 0, 124, '07777777777'), 0, 156, 'x'), /declares a name of 1073741823 bytes; 1048576 are the most/],
    ['a name that is cut', patched(patched(whole.subarray(0, 512), 0, 124, '00000000100'), 0, 156, 'L'), /is cut off within a name/],
    ['an extended size that is no number', await tarOf([{ name: 'a', data: 'x', pax: { size: '-5' } }]), /no number of bytes: "-5"/],
  ])('%s', (_, bytes, message) => {
    expect(() => listed(bytes)).toThrow(FileError);
    expect(() => listed(bytes)).toThrow(message);
  });

  test('any byte that changes is refused or changes nothing else than data and names', () => {
    fc.assert(
      fc.property(fc.nat({ max: whole.length - 1 }), fc.integer({ min: 0, max: 255 }), (at, value) => {
        const bytes = Buffer.from(whole);
        bytes[at] = value;
        try {
          expect(listed(bytes).found.length).toBeLessThanOrEqual(2);
        } catch (error) {
          expect(error).toBeInstanceOf(FileError);
        }
      }),
    );
  });
});

test('a member that moved, changed or is no longer there is noticed', async () => {
  const path = join(folder, 'a.tar');
  const bytes = await tarOf([{ name: 'a.png', data: 'picture' }]);
  writeFileSync(path, bytes);
  const file = openFile(path);
  const [place] = [...readTar(file, () => {}).members];
  expect(Buffer.from(memberAt(file, place, 'a.png')).toString()).toBe('picture');
  for (const other of [
    { ...place, offset: place.offset + 512 },
    { ...place, header: place.header ^ 1 },
    { ...place, offset: 0 },
    { ...place, size: 1e9 },
  ])
    expect(() => memberAt(file, other, 'a.png')).toThrow(/a\.tar: has changed: "a\.png" is no longer at byte \d+; run prepare again/);
  file.close();
  appendFileSync(path, bytes); // what is added behind leaves it where it was
  const longer = openFile(path);
  expect(Buffer.from(memberAt(longer, place, 'a.png')).toString()).toBe('picture');
  longer.close();
});
