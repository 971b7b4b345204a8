/** The folder for files that can be made again at any time: the embedded driver, unpacked models, tuning tables. */
import { homedir } from 'node:os';
import { join } from 'node:path';

/** `GLIMPSE_CACHE`, else `$XDG_CACHE_HOME/glimpse`, else `~/.cache/glimpse`. */
export function cacheFolder(): string {
  return process.env.GLIMPSE_CACHE || join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'glimpse');
}
