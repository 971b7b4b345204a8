/** Writes small tars for tests: ordinary members by tar-stream, and headers with whatever a hostile file may say. */
import { text } from 'node:stream/consumers';
import tar from 'tar-stream';

export interface Member {
  name: string;
  data?: string | Uint8Array;
  type?: 'file' | 'symlink' | 'link' | 'directory' | 'fifo' | 'character-device';
  linkname?: string;
  pax?: Record<string, string>;
}

/** The bytes of a tar with these members, in this order. */
export async function tarOf(members: readonly Member[]): Promise<Buffer> {
  const pack = tar.pack();
  for (const { name, data = '', type = 'file', linkname, pax } of members) {
    const header = { name, type, mtime: new Date(0), ...(linkname ? { linkname } : {}), ...(pax ? { pax } : {}) };
    if (type === 'file') pack.entry(header, Buffer.from(data));
    else pack.entry(header);
  }
  pack.finalize();
  return Buffer.from(await text(pack.setEncoding('latin1')), 'latin1');
}

/** Puts a text into a header block and mends its checksum. */
export function patched(tarBytes: Uint8Array, block: number, at: number, value: string): Buffer {
  const bytes = Buffer.from(tarBytes);
  const start = 512 * block;
  bytes.write(value, start + at, 'latin1');
  bytes.fill(' ', start + 148, start + 156);
  const sum = bytes.subarray(start, start + 512).reduce((total, byte) => total + byte, 0);
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, start + 148, 'latin1');
  return bytes;
}
