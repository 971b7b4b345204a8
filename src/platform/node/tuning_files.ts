/**
 * Tuning tables as files: those committed beside the shaders, and one in the cache that the user made for this adapter.
 * The user's table goes first for every family whose shaders are unchanged since.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { FileError, messageOf } from '../../errors.ts';
import type { Gpu } from '../../gpu/gpu.ts';
import { FAMILIES } from '../../kernels/families.ts';
import { parseTuningTable, type Tuning, type TuningTable, tuningFrom } from '../../kernels/tuning.ts';
import { cacheFolder } from './cache.ts';

const COMMITTED = new URL('../../kernels/tuned/', import.meta.url);

export function tuningPath(gpu: Gpu): string {
  const name = `${gpu.adapterName} ${gpu.driverName}`.replaceAll(/[^\w.]+/g, '-').slice(0, 120);
  return join(cacheFolder(), 'tuning', `${name}.json`);
}

export function readTuningTable(path: string | URL): TuningTable {
  try {
    return parseTuningTable(JSON.parse(readFileSync(path, 'utf8')));
  } catch (error) {
    throw new FileError(String(path), `is no tuning table (${messageOf(error)}); delete it or run \`glimpse tune\` again`);
  }
}

export function loadTuning(gpu: Gpu): Tuning {
  const committed = readTuningTable(new URL(`${gpu.kind}.json`, COMMITTED));
  const path = tuningPath(gpu);
  return tuningFrom(gpu, (family) => FAMILIES[family]?.shaders ?? [], committed, existsSync(path) ? { name: path, table: readTuningTable(path) } : null);
}
