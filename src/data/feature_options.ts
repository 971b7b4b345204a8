/** The options of commands that read stored features. */
import { FLAG, type Rows, several } from '../options.ts';

export const FEATURES = {
  features: { values: several('folder'), help: 'feature stores made by features: one, the shards of one dataset, or a folder in which they lie side by side' },
  allowMissing: { values: FLAG, help: 'read shards although some are missing; which ones is told' },
} satisfies Rows;
