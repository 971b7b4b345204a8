/** Safetensors files (safetensors_format.ts): read as far as they are asked for, written at once or not at all. */
import { writeFileAtomic } from './atomic_file.ts';
import { openFile } from './file_source.ts';
import { parseSafetensors, type SafetensorsFile, safetensorsBytes } from './safetensors_format.ts';

export type { SafetensorsFile, StoredTensor } from './safetensors_format.ts';

export function readSafetensors(path: string): SafetensorsFile {
  const file = openFile(path);
  try {
    return parseSafetensors(file);
  } finally {
    file.close();
  }
}

/** Writes the tensors atomically. */
export function writeSafetensors(path: string, ...content: Parameters<typeof safetensorsBytes>): void {
  writeFileAtomic(path, safetensorsBytes(...content));
}
