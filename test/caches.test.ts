/** What is unpacked into the cache is checked at every start, and made anew when it is damaged or was left half made. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { temporaryName } from '../src/data/atomic_file.ts';
import { unpackedModel } from '../src/model/encoder/encoder.ts';
import { writeTinyEncoder } from './captioner_run.ts';
import { glimpse, temporaryFolder } from './support.ts';

const folder = temporaryFolder();
const cache = join(folder, 'cache');

/** Runs a command that uses this cache. */
function cached(...args: string[]) {
  process.env.GLIMPSE_CACHE = cache;
  try {
    return glimpse(...args);
  } finally {
    delete process.env.GLIMPSE_CACHE;
  }
}

test.runIf(process.platform === 'linux' && process.arch === 'x64')(
  'a damaged driver is unpacked anew, whatever the damage',
  async () => {
    const doctor = () => cached('doctor', '--adapter', 'swiftshader', '--json');
    expect((await doctor()).code).toBe(0);
    const [name] = readdirSync(cache).filter((each) => each.startsWith('swiftshader-'));
    const library = join(cache, name, 'libvk_swiftshader.so');
    const whole = readFileSync(library);
    const damages = [
      () => truncateSync(library, 4096),
      () => truncateSync(library, 0),
      () =>
        writeFileSync(
          library,
          whole.map((byte, i) => (i % 1000 === 999 ? byte ^ 4 : byte)),
        ),
      () => writeFileSync(join(cache, name, 'icd.json'), '{'),
    ];
    for (const damage of damages) {
      damage();
      const { code, stderr } = await doctor();
      expect(stderr).not.toMatch(/bus error/i);
      expect(code).toBe(0);
      expect(readFileSync(library).equals(whole)).toBe(true);
    }
    expect(readdirSync(cache).filter((each) => each.includes('.tmp'))).toEqual([]);
  },
  60_000,
);

test('a damaged model is unpacked anew, and what a killed process left is removed', async () => {
  const plain = join(folder, 'tiny.onnx');
  writeTinyEncoder(plain);
  const packed = `${plain}.gz`;
  writeFileSync(packed, gzipSync(readFileSync(plain)));
  utimesSync(packed, 1, 1);
  process.env.GLIMPSE_CACHE = cache;
  try {
    const file = await unpackedModel(packed);
    const right = readFileSync(plain);
    expect(readFileSync(file).equals(right)).toBe(true);
    const { pid: gone } = spawnSync(process.execPath, ['--version']);
    const [left, ofTheLiving] = [temporaryName(file).replace(`-${process.pid}-`, `-${gone}-`), temporaryName(file)];
    for (const path of [left, ofTheLiving]) writeFileSync(path, 'half');
    const flipped = Buffer.from(right);
    flipped[2000] ^= 1;
    for (const damage of [() => writeFileSync(file, flipped), () => truncateSync(file, 100), () => writeFileSync(`${file}.sha256`, 'none')]) {
      damage();
      expect(readFileSync(await unpackedModel(packed)).equals(right)).toBe(true);
    }
    expect([existsSync(left), existsSync(ofTheLiving)]).toEqual([false, true]);
  } finally {
    delete process.env.GLIMPSE_CACHE;
  }
});

test('a cache that cannot be written, and an encoder that is no file, fail in one line', async () => {
  const packed = join(folder, 'tiny.onnx.gz');
  if (!existsSync(packed)) {
    writeTinyEncoder(join(folder, 'again.onnx'));
    writeFileSync(packed, gzipSync(readFileSync(join(folder, 'again.onnx'))));
  }
  mkdirSync(join(folder, 'a folder'));
  writeFileSync(join(folder, 'no folder'), '');
  process.env.GLIMPSE_CACHE = join(folder, 'no folder');
  await expect(unpackedModel(packed)).rejects.toThrow(/no folder\/models/);
  delete process.env.GLIMPSE_CACHE;
  await expect(unpackedModel(join(folder, 'a folder'))).rejects.toThrow(/a folder: is a folder, not an ordinary file/);
  await expect(unpackedModel('/dev/zero')).rejects.toThrow(/is a device/);
  const huge = join(folder, 'huge.onnx');
  writeFileSync(huge, '');
  truncateSync(huge, 2 ** 32 + 1); // a hole: it takes no room
  await expect(unpackedModel(huge)).rejects.toThrow(/has 4294967297 bytes; a model has at most 4 GiB/);
});
