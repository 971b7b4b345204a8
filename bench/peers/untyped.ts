/** Modules of the oracles’ folder. They are not installed where types are checked, so they are taken as they come (`any`). */
import { existsSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const FOLDER = new URL('../../oracles/node_modules/', import.meta.url);

export type Untyped = any;

export function oraclesInstalled(): boolean {
  return existsSync(FOLDER);
}

/** Imports a file of a package by its path below node_modules. */
export function oracleModule(path: string): Promise<Untyped> {
  return import(pathToFileURL(new URL(path, FOLDER).pathname).href);
}
