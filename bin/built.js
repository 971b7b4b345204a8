/**
 * Whether what `npm run build` made is newer than every source, so that it may run instead: Node loads it 0.3 to 0.5
 * seconds sooner than it translates the sources.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** Written last by the build (scripts/finish-build.js). */
const STAMP = join('dist', 'built');

/** @param {string} root the folder of the project */
export function hasSources(root) {
  return existsSync(join(root, 'src'));
}

/** @param {string} root the folder of the project, or of the installed package, which has no sources */
export function isBuilt(root) {
  const built = statSync(join(root, STAMP), { throwIfNoEntry: false })?.mtimeMs;
  if (built === undefined) return false;
  if (!hasSources(root)) return true;
  const sources = join(root, 'src');
  return [sources, ...readdirSync(sources, { recursive: true }).map((name) => join(sources, String(name)))].every((path) => statSync(path).mtimeMs <= built);
}
