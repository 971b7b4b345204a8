/** Shaders as files beside the code. Each is read when it is first used. */
import { readFileSync } from 'node:fs';
import { GpuError } from '../../errors.ts';

const FOLDER = new URL('../../kernels/wgsl/', import.meta.url);
const sources = new Map<string, string>();

/** The text of a file of kernels/wgsl, by its name without the ending. */
export function shaderSource(file: string): string {
  let text = sources.get(file);
  if (text === undefined) {
    if (!/^[a-z0-9_]+$/.test(file)) throw new GpuError('shader', file, 'a shader name has letters, digits and underscores only');
    text = readFileSync(new URL(`${file}.wgsl`, FOLDER), 'utf8');
    sources.set(file, text);
  }
  return text;
}
