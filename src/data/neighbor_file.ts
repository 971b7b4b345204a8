/**
 * The file of `glimpse neighbors`: a vector of every training picture, and the captions that people gave it. It is a safetensors file.
 * Vectors are halves, two to a word, because they are the largest part. Captions are JSON, as bytes.
 */
import { z } from 'zod';
import { FileError } from '../errors.ts';
import type { ByteSource } from './bytes.ts';
import { EncoderIdentity } from './encoder_identity.ts';
import { nonFinite } from './finite.ts';
import { wordsOfHalves } from './half.ts';
import { parseSafetensors, type StoredTensor, safetensorsBytes } from './safetensors_format.ts';
import { parseJson } from './validation.ts';

export interface NeighborFile {
  /** What made the features. */
  encoder: EncoderIdentity;
  /** Numbers of a vector. */
  width: number;
  /** One unit vector per picture as halves, [pictures, width]. */
  vectors: Uint16Array;
  /** Their mean, [width]. */
  mean: Float32Array;
  /** The captions of each picture. */
  captions: string[][];
}

/** The metadata that says which kind of file it is. */
const FORMAT = 'glimpse neighbors 1';

const Captions = z.array(z.array(z.string()).min(1)).min(1);

/** A whole number of words: the bytes, then spaces, which JSON allows. */
function wordsOf(bytes: Uint8Array): Uint32Array {
  const padded = new Uint8Array(4 * Math.ceil(bytes.length / 4)).fill(32);
  padded.set(bytes);
  return new Uint32Array(padded.buffer);
}

/** The bytes of the file, piece by piece. */
export function neighborBytes({ encoder, width, vectors, mean, captions }: NeighborFile): Generator<Uint8Array> {
  const pairs = wordsOfHalves(vectors);
  const text = wordsOf(new TextEncoder().encode(JSON.stringify(captions)));
  const tensors = new Map<string, Pick<StoredTensor, 'shape' | 'data'>>([
    ['vectors', { shape: [pairs.length], data: pairs }],
    ['mean', { shape: [width], data: mean }],
    ['captions', { shape: [text.length], data: text }],
  ]);
  return safetensorsBytes(tensors, { format: FORMAT, encoder: JSON.stringify(encoder) });
}

/** Throws a FileError that names the source and what is wrong. */
export function parseNeighbors(source: ByteSource): NeighborFile {
  const { name: path } = source;
  const { metadata, tensors } = parseSafetensors(source);
  if (metadata.format !== FORMAT) throw new FileError(path, 'is no file of neighbors; `glimpse neighbors` makes one');
  const encoder = parseJson(path, metadata.encoder ?? '', EncoderIdentity, 'says no encoder');
  const [mean, pairs, text] = ['mean', 'vectors', 'captions'].map((name) => tensors.get(name)?.data);
  if (!(mean instanceof Float32Array && pairs instanceof Uint32Array && text instanceof Uint32Array))
    throw new FileError(path, 'is a damaged file of neighbors: its mean, its vectors or its captions are missing, or of another type');
  const captions = parseJson(path, new TextDecoder().decode(new Uint8Array(text.buffer, text.byteOffset, text.byteLength)), Captions, 'has damaged captions');
  const numbers = captions.length * mean.length;
  if (mean.length === 0 || pairs.length !== Math.ceil(numbers / 2))
    throw new FileError(path, `is a damaged file of neighbors: ${captions.length} pictures of ${mean.length} numbers, and ${2 * pairs.length} numbers`);
  const vectors = new Uint16Array(pairs.buffer, pairs.byteOffset, numbers);
  if (nonFinite(mean) || vectors.some((half) => (half & 0x7c00) === 0x7c00))
    throw new FileError(path, 'is a damaged file of neighbors: its mean or its vectors are no numbers');
  return { encoder, width: mean.length, vectors, mean, captions };
}
