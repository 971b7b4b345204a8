/**
 * The software Vulkan driver of last resort: SwiftShader, inside an npm package as a compressed tar. It is unpacked once into
 * the user's cache, checked against known hashes, and put in place atomically. With it, a machine without a GPU driver and a
 * user without root can run every kernel.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';
import { makeFolder, removeAbandoned, renameLasting, sync, temporaryName } from '../../data/atomic_file.ts';
import { GpuError, messageOf } from '../../errors.ts';
import { cacheFolder } from './cache.ts';

const SHA256: Record<string, string> = {
  'libvk_swiftshader.so': '5b9e8591c7c2d1c9',
  'libvulkan.so.1': 'fe17a77c1f2df38d',
};

export interface EmbeddedDriver {
  /** Path of the Vulkan ICD manifest, for VK_ICD_FILENAMES or VK_ADD_DRIVER_FILES. */
  manifest: string;
  /** Path of a Vulkan loader, for machines that have none. */
  loader: string;
}

/** The regular files of a tar, without their folders. Throws if a size exceeds the data. */
function* tarFiles(tar: Buffer): Generator<{ name: string; body: Buffer }> {
  for (let at = 0; at + 512 <= tar.length; ) {
    const header = tar.subarray(at, at + 512);
    if (header[0] === 0) return;
    const name = header.toString('utf8', 0, 100).replace(/\0.*$/s, '');
    const size = Number.parseInt(header.toString('latin1', 124, 136).replace(/\0.*$/s, '').trim(), 8);
    if (!Number.isSafeInteger(size) || at + 512 + size > tar.length) throw new Error(`damaged tar at byte ${at}`);
    if (header[156] === 0x30 || header[156] === 0) {
      yield { name: name.replace(/^.*\//, ''), body: tar.subarray(at + 512, at + 512 + size) };
    }
    at += 512 + Math.ceil(size / 512) * 512;
  }
}

function packageArchive(): string | null {
  try {
    // The package's `exports` hides its files. So resolve its entry, then walk up to the folder that has them.
    let folder = dirname(createRequire(import.meta.url).resolve('@sparticuz/chromium'));
    while (folder !== dirname(folder)) {
      const archive = join(folder, 'bin', 'swiftshader.tar.br');
      if (existsSync(archive)) return archive;
      folder = dirname(folder);
    }
  } catch {
    // Not installed: the caller says so.
  }
  return null;
}

const MANIFEST = JSON.stringify({ file_format_version: '1.0.0', ICD: { library_path: './libvk_swiftshader.so', api_version: '1.0.5' } });

/** The folder that this process has found whole. */
let checked = '';

const hashOf = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

/** Whether the cache holds the driver as it was unpacked. A damaged library would end the process without a message. */
function isWhole(folder: string): boolean {
  try {
    return (
      readFileSync(join(folder, 'icd.json'), 'utf8') === MANIFEST &&
      Object.entries(SHA256).every(([name, expected]) => hashOf(readFileSync(join(folder, name))).startsWith(expected))
    );
  } catch {
    return false;
  }
}

/** Writes a file that is new, to disk. */
function writeSynced(path: string, data: string | Buffer): void {
  writeFileSync(path, data, { mode: 0o755, flag: 'wx' });
  sync(path);
}

/** Unpacks the archive into a new folder. Throws if a file is missing or not the one that is known. */
function unpack(archive: string, folder: string): void {
  makeFolder(folder);
  const found = new Set<string>();
  for (const { name, body } of tarFiles(brotliDecompressSync(readFileSync(archive)))) {
    const expected = SHA256[name];
    if (!expected) continue;
    const actual = hashOf(body);
    if (!actual.startsWith(expected)) throw new Error(`${name} has sha256 ${actual.slice(0, 16)}…, expected ${expected}…`);
    writeSynced(join(folder, name), body);
    found.add(name);
  }
  for (const name of Object.keys(SHA256)) if (!found.has(name)) throw new Error(`the archive has no ${name}`);
  writeSynced(join(folder, 'icd.json'), MANIFEST);
}

/** Unpacks SwiftShader if it is not in the cache, or damaged there. Throws a GpuError if that is impossible. */
export function embeddedDriver(): EmbeddedDriver {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new GpuError('no-adapter', 'embedded driver', `SwiftShader is carried for linux-x64 only, this is ${process.platform}-${process.arch}`);
  }
  const folder = join(cacheFolder(), `swiftshader-${SHA256['libvk_swiftshader.so']}`);
  const driver = { manifest: join(folder, 'icd.json'), loader: join(folder, 'libvulkan.so.1') };
  if (folder === checked || isWhole(folder)) {
    checked = folder;
    return driver;
  }
  const archive = packageArchive();
  if (!archive) {
    throw new GpuError('no-adapter', 'embedded driver', 'the optional package @sparticuz/chromium is not installed', 'Run `npm ci` without --omit=optional.');
  }
  const temporary = temporaryName(folder);
  const damaged = temporaryName(folder);
  try {
    makeFolder(cacheFolder());
    removeAbandoned(folder);
    unpack(archive, temporary);
    try {
      if (existsSync(folder)) renameSync(folder, damaged);
      renameLasting(temporary, folder);
    } catch (error) {
      if (!isWhole(folder)) throw error; // else another process was first, and its copy serves
    }
    return driver;
  } catch (error) {
    throw new GpuError(
      'no-adapter',
      'embedded driver',
      `cannot unpack SwiftShader into ${folder}: ${messageOf(error)}`,
      'Set GLIMPSE_CACHE to a folder that can be written.',
    );
  } finally {
    for (const path of [temporary, damaged]) rmSync(path, { recursive: true, force: true });
  }
}
