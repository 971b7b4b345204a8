/** The version of this package, as its package.json has it. */
import { existsSync, readFileSync } from 'node:fs';

/** Three folders up from the sources, four from what was built of them. */
const PACKAGE = ['../../../package.json', '../../../../package.json'].map((path) => new URL(path, import.meta.url)).find((url) => existsSync(url)) as URL;

export const { version: VERSION } = JSON.parse(readFileSync(PACKAGE, 'utf8')) as { version: string };
