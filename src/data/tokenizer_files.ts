/** The tokenizer of a language model, as Hugging Face stores GPT-2's: `vocab.json` (tokens and their ids) and `merges.txt`. */
import { join } from 'node:path';
import { z } from 'zod';
import { FileError } from '../errors.ts';
import { BYTE_TOKENS, BytePairs, isToken } from './byte_pairs.ts';
import { readText } from './text.ts';
import { parseJson, quoted } from './validation.ts';

const [VOCABULARY, MERGES] = ['vocab.json', 'merges.txt'];

export interface Tokenizer {
  bytePairs: BytePairs;
  /** The language model's id of each token. */
  ids: ReadonlyMap<string, number>;
}

/** No tokenizer of this kind comes near that. */
const MOST_TOKENS = 1 << 20;

const Ids = z.record(z.string(), z.number().int().nonnegative());

/** The ids of the tokens. Throws a FileError for ids that are taken twice or leave gaps. */
export function readTokenIds(folder: string): ReadonlyMap<string, number> {
  const path = join(folder, VOCABULARY);
  const ids = new Map(Object.entries(parseJson(path, readText(path), Ids, 'is no list of tokens with their ids')));
  if (ids.size > MOST_TOKENS) throw new FileError(path, `has ${ids.size} tokens; at most ${MOST_TOKENS} are taken`);
  const owners = new Map<number, string>();
  for (const [token, id] of ids) {
    const other = owners.get(id);
    if (other !== undefined) throw new FileError(path, `the id ${id} belongs to two tokens: ${quoted(other)} and ${quoted(token)}`);
    if (id >= ids.size) throw new FileError(path, `${quoted(token)} has the id ${id}, but there are only ${ids.size} tokens`);
    owners.set(id, token);
  }
  const missing = BYTE_TOKENS.find((token) => !ids.has(token));
  if (missing !== undefined) throw new FileError(path, `has no token ${quoted(missing)}: the tokens of a byte-level tokenizer begin with the 256 bytes`);
  return ids;
}

/** Reads both files. Throws a FileError that names the line or the token which does not fit. */
export function readTokenizer(folder: string): Tokenizer {
  const ids = readTokenIds(folder);
  const path = join(folder, MERGES);
  const merges: [string, string][] = [];
  for (const [at, line] of readText(path).split(/\r?\n/).entries()) {
    if (line === '' || (at === 0 && line.startsWith('#version'))) continue;
    const parts = line.split(' ');
    if (parts.length !== 2 || !parts.every(isToken))
      throw new FileError(path, `line ${at + 1}: expected two tokens with a space between them, got ${quoted(line)}`);
    const [left, right] = parts;
    const stranger = [left, right, left + right].find((token) => !ids.has(token));
    if (stranger !== undefined) throw new FileError(path, `line ${at + 1}: ${quoted(stranger)} is no token of ${VOCABULARY}`);
    merges.push([left, right]);
  }
  if (merges.length === 0) throw new FileError(path, 'has no merges; a tokenizer of GPT-2 has one pair of tokens a line');
  return { bytePairs: new BytePairs(merges), ids };
}
