/** Tuning tables that were made in this browser, one for each adapter, kept in IndexedDB. */
import { GlimpseError, messageOf } from '../../errors.ts';
import type { Gpu } from '../../gpu/gpu.ts';
import { parseTuningTable, type TuningTable } from '../../kernels/tuning.ts';

const DATABASE = 'glimpse';
const TABLES = 'tuning';

/** What tells this adapter's table from others'. */
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

/** The table kept for this adapter, or null: also where a browser keeps nothing, as in some private windows. */
export async function keptTuning(gpu: Gpu): Promise<{ name: string; table: TuningTable } | null> {
  if (typeof indexedDB === 'undefined') return null;
  const kept = await withTables('readonly', (tables) => tables.get(keyOf(gpu))).catch(() => undefined);
  if (kept === undefined) return null;
  try {
    return { name: 'kept in this browser', table: parseTuningTable(kept) };
  } catch {
    return null; // a table of another version of this program: the committed one serves until a new one is made
  }
}

/** Keeps a table for later visits. */
export async function keepTuning(gpu: Gpu, table: TuningTable): Promise<void> {
  try {
    await withTables('readwrite', (tables) => tables.put(table, keyOf(gpu)));
  } catch (error) {
    throw new GlimpseError(`the browser does not keep the tuning table (${messageOf(error)})`);
  }
}
