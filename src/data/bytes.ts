/** Bytes from outside, wherever they are: in a file, or in memory. Readers of formats take these, so that they run in any host. */
import { FileError } from '../errors.ts';

/** Bytes that can be read in any order. `read` gives bytes of its own, at the beginning of their buffer. */
export interface ByteSource {
  /** What errors call it: a path, or the name of what was dropped on a page. */
  name: string;
  size: number;
  /** Fewer bytes than asked for where the source ends. */
  read(at: number, length: number): Uint8Array<ArrayBuffer>;
  /** Another file of the same folder; throws a FileError if there is none, or if it lies elsewhere. */
  beside(location: string): ByteSource;
  close(): void;
}

/** Bytes in memory as a source. They have no folder. */
export function bytesAsSource(name: string, bytes: Uint8Array): ByteSource {
  return {
    ...{ name, size: bytes.length },
    read: (at, length) => new Uint8Array(bytes.subarray(at, at + length)),
    beside: (location) => {
      throw new FileError(name, `has data in another file, "${location}", which was not given`);
    },
    close: () => {},
  };
}
