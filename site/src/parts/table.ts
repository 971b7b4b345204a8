/** The op table, the families and the exercises, asked of the engine once. */
import type { Engine } from '../../engine/client.ts';
import type { Jobs } from '../../engine/protocol.ts';

export type Table = Jobs['table']['result'];

let table: Promise<Table> | null = null;

export function tableOf(engine: Engine): Promise<Table> {
  table ??= engine.run('table', null);
  table.catch(() => {
    table = null;
  });
  return table;
}
