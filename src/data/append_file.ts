/** A file to which records are added, such as a log. It knows its length and notices when it was removed or replaced. */
import { closeSync, fstatSync, fsyncSync, ftruncateSync, openSync, readFileSync, statSync, writeSync } from 'node:fs';
import { FileError } from '../errors.ts';
import { onFile } from './atomic_file.ts';

/** Where the last whole line ends. */
export const wholeLines = (bytes: Uint8Array): number => bytes.lastIndexOf(0x0a) + 1;

export class AppendFile {
  private readonly file: number;
  /** Bytes that should be kept and are not there: somebody cut the file. */
  readonly missing: number;

  /**
   * Opens the file, or makes it, and cuts it at `keepBytes`, so that a resumed run goes on from there. If it is shorter, it may end
   * within a record: `wholeRecords` says where the last whole one ends.
   */
  constructor(
    readonly path: string,
    keepBytes: number,
    wholeRecords: (bytes: Uint8Array) => number,
  ) {
    this.file = onFile(path, () => openSync(path, 'a'));
    const { size } = fstatSync(this.file);
    const kept = size >= keepBytes ? keepBytes : wholeRecords(new Uint8Array(readFileSync(path)));
    this.missing = keepBytes - kept;
    if (size > kept) onFile(path, () => ftruncateSync(this.file, kept));
  }

  get bytes(): number {
    return fstatSync(this.file).size;
  }

  /** Adds a whole record. */
  write(record: string | Uint8Array): void {
    const bytes = typeof record === 'string' ? Buffer.from(record) : record;
    onFile(this.path, () => {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.file, bytes, at);
    });
  }

  /** Syncs the records to disk. Throws a FileError if the path now leads elsewhere. */
  sync(): void {
    onFile(this.path, () => fsyncSync(this.file));
    const there = statSync(this.path, { throwIfNoEntry: false });
    if (there?.ino !== fstatSync(this.file).ino) throw new FileError(this.path, 'was removed or replaced while it was written');
  }

  close(): void {
    closeSync(this.file);
  }
}
