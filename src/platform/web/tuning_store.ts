/** Tuning tables that were made in this browser, one for each adapter. IndexedDB keeps them. */
import { GlimpseError, messageOf } from '../../errors.ts';
import type { Gpu } from '../../gpu/gpu.ts';
import { parseTuningTable, type TuningTable } from '../../kernels/tuning.ts';

const DATABASE = 'glimpse';
const TABLES = 'tuning';

/** The key of this adapter's table. */
const keyOf = (gpu: Gpu): string => `${gpu.adapterName} ${gpu.driverName}`;

function settled<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function withTables<T>(mode: IDBTransactionMode, work: (tables: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(TABLES);
  const database = await settled(opening);
  try {
    return await settled(work(database.transaction(TABLES, mode).objectStore(TABLES)));
  } finally {
    database.close();
  }
}

/** The table kept for this adapter, or null if there is none. Some private windows keep nothing. */
export async function keptTuning(gpu: Gpu): Promise<{ name: string; table: TuningTable } | null> {
  if (typeof indexedDB === 'undefined') return null;
  const kept = await withTables('readonly', (tables) => tables.get(keyOf(gpu))).catch(() => undefined);
  if (kept === undefined) return null;
  try {
    return { name: 'kept in this browser', table: parseTuningTable(kept) };
  } catch {
    return null; // made by another version of this program; the committed table serves until a new one is made
  }
}

/** Keeps a table for later visits. Throws a GlimpseError if the browser refuses. */
export async function keepTuning(gpu: Gpu, table: TuningTable): Promise<void> {
  try {
    await withTables('readwrite', (tables) => tables.put(table, keyOf(gpu)));
  } catch (error) {
    throw new GlimpseError(`the browser does not keep the tuning table (${messageOf(error)})`);
  }
}
