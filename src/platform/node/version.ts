/** The version of this package, as its package.json has it. */
import { existsSync, readFileSync } from 'node:fs';

/** The folder of the package: three folders up from the sources, four from what was built of them. */
export const PACKAGE = ['../../../', '../../../../']
  .map((path) => new URL(path, import.meta.url))
  .find((url) => existsSync(new URL('package.json', url))) as URL;

export const { version: VERSION } = JSON.parse(readFileSync(new URL('package.json', PACKAGE), 'utf8')) as { version: string };
