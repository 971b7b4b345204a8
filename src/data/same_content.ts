/** Finds pictures that are one file under two names: a model would be tested on what it was trained on, and nobody would see it. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { type Counted, counted } from '../counted.ts';
import type { Split } from './captions.ts';

/** Pictures whose bytes an earlier picture has too, with examples; and how many of them are in another split than that one. */
export interface SameContent extends Counted {
  acrossSplits: number;
}

interface Picture {
  file: string;
  split: Split;
  path: string;
  /** Digest of its bytes, where they have been in memory. */
  digest?: string;
}

/** A digest of 128 bits, as short text. */
export const digestOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest().toString('latin1', 0, 16);

const SAMPLE_BYTES = 4096;

/** The middle of a file: it tells nearly all pictures of one size apart. */
async function sampleOf(path: string): Promise<string> {
  const { size } = await stat(path);
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(SAMPLE_BYTES), 0, SAMPLE_BYTES, Math.max(0, Math.floor(size / 2) - SAMPLE_BYTES / 2));
    return buffer.toString('latin1', 0, bytesRead);
  } finally {
    await file.close();
  }
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

/** Parts of a group that agree in what a function tells; parts of one are left out. */
async function alike(group: readonly Picture[], tell: (picture: Picture) => Promise<string | number>): Promise<Picture[][]> {
  const parts = new Map<string | number, Picture[]>();
  for (const picture of group) {
    const told = await tell(picture);
    const part = parts.get(told);
    if (part) part.push(picture);
    else parts.set(told, [picture]);
  }
  return [...parts.values()].filter((part) => part.length > 1);
}

/** Compares digests where they are known. Else sizes first, then the middle of the files, and hashes only what agrees in both. */
export async function sameContent(pictures: readonly Picture[]): Promise<SameContent> {
  let groups = await alike(pictures, async ({ path, digest }) => digest ?? (await stat(path)).size);
  for (const read of [sampleOf, hashOf]) {
    const tell = async ({ path, digest }: Picture) => digest ?? read(path);
    const finer: Picture[][] = [];
    for (const group of groups) finer.push(...(await alike(group, tell)));
    groups = finer;
  }
  const repeated = groups.flatMap(([first, ...others]) => others.map((other) => ({ first, other })));
  const text = ({ file, split }: Picture) => `${file} (${split})`;
  return {
    ...counted(repeated.map(({ first, other }) => `${text(other)} is ${text(first)}`)),
    acrossSplits: groups.reduce((sum, [first, ...others]) => sum + others.filter(({ split }) => split !== first.split).length, 0),
  };
}
