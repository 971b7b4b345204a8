/**
 * The members of a tar file with the place of each, so that one can be read without the others. Only headers are read here, not what
 * stands between them. A tar is hostile until checked: sizes, names, links, and whether it ends where it should.
 */
import headers from 'tar-stream/headers.js';
import { FileError } from '../errors.ts';
import type { ByteSource } from './bytes.ts';
import { crc32c } from './crc32c.ts';
import { problemOf, quoted } from './validation.ts';

const BLOCK = 512;
/** Long names stand in members of their own. No name needs more. */
const MOST_OF_NAMES = 1 << 20;
const WINDOW = 1 << 15;

export interface TarMember {
  name: string;
  /** First byte of its data, and their number. */
  offset: number;
  size: number;
  /** CRC-32C of its header block, which tells whether the member is still there. */
  header: number;
}

/** What was passed over, and why. */
export type PassedOver = (name: string, why: string) => void;

/** Reads a few kilobytes at once: headers and captions lie close together. */
function windowed(file: ByteSource): (at: number, length: number) => Uint8Array {
  let [from, bytes] = [0, new Uint8Array(0)];
  return (at, length) => {
    if (length > WINDOW) return file.read(at, length);
    if (at < from || at + length > from + bytes.length) [from, bytes] = [at, file.read(at, WINDOW)];
    return bytes.subarray(at - from, at - from + length);
  };
}

const OTHER_KINDS: Readonly<Record<string, string>> = {
  link: 'a link',
  symlink: 'a link',
  'character-device': 'a device',
  'block-device': 'a device',
  fifo: 'a pipe',
};

/** Why a member of this name is not taken; null for a plain name within the tar. */
function nameFault(name: string): string | null {
  if (/\p{Cc}/u.test(name)) return 'its name has control characters';
  const parts = name.split('/');
  if (name === '' || name.includes('\\') || parts.some((part) => part === '..' || part === '')) return 'its name leads out of the tar';
  return null;
}

export interface TarReading {
  /** Ordinary files in their order. Throws a FileError where the tar is damaged or cut off; what came before it is sound. */
  members: Generator<TarMember>;
  /** Bytes of a member; at most `most`. */
  bytes(member: TarMember, most: number): Uint8Array;
}

/** Reads the headers of a tar. `onOther` is told of members that are no ordinary files within it. */
export function readTar(file: ByteSource, onOther: PassedOver): TarReading {
  const read = windowed(file);
  const fail = (at: number, problem: string): never => {
    throw new FileError(file.name, `${problem} (header at byte ${at})`);
  };
  const long = (at: number, size: number): Uint8Array => {
    if (size > MOST_OF_NAMES) fail(at, `declares a name of ${size} bytes; ${MOST_OF_NAMES} are the most that is read`);
    if (at + BLOCK + size > file.size) fail(at, 'is cut off within a name');
    return Uint8Array.from(read(at + BLOCK, size));
  };
  function* members(): Generator<TarMember> {
    let [at, ended] = [0, false];
    let global: Record<string, string> = {};
    let [pax, path]: [Record<string, string>, string | null] = [{}, null];
    while (at < file.size) {
      const block = read(at, BLOCK);
      if (block.length < BLOCK) fail(at, 'is cut off within a header');
      let header: ReturnType<typeof headers.decode>;
      try {
        header = headers.decode(block, 'utf-8', true);
      } catch (error) {
        return fail(at, `is no tar, or damaged: ${problemOf(error)}`);
      }
      if (header === null) {
        ended = true; // another tar may stand behind the end of this one
        at += BLOCK;
        continue;
      }
      ended = false;
      const { type } = header;
      const declared = pax.size === undefined || type === 'pax-header' ? header.size : /^\d{1,15}$/.test(pax.size) ? Number(pax.size) : Number.NaN;
      if (!Number.isSafeInteger(declared) || declared < 0) fail(at, `declares a size that is no number of bytes: ${quoted(pax.size ?? String(declared))}`);
      const hasData = !(type !== null && (type in OTHER_KINDS || type === 'directory'));
      const size = hasData ? declared : 0;
      const next = at + BLOCK + Math.ceil(size / BLOCK) * BLOCK;
      if (type === 'pax-global-header') global = { ...global, ...headers.decodePax(long(at, size)) };
      else if (type === 'pax-header') pax = { ...global, ...headers.decodePax(long(at, size)) };
      else if (type === 'gnu-long-path') path = headers.decodeLongPath(long(at, size), 'utf-8');
      else if (type === 'gnu-long-link-path') long(at, size);
      else {
        const given = path ?? pax.path ?? header.name;
        const name = given
          .split('/')
          .filter((part) => part !== '.')
          .join('/');
        if (at + BLOCK + size > file.size)
          fail(at, `is cut off within ${quoted(name)}: ${size} bytes are declared, ${Math.max(0, file.size - at - BLOCK)} are left`);
        const sparse = Object.keys(pax).some((key) => key.startsWith('GNU.sparse'));
        const why = sparse
          ? 'a sparse file'
          : type === null
            ? 'a sparse file or another kind that is not read'
            : (OTHER_KINDS[type] ?? nameFault(type === 'directory' ? name.replace(/\/$/, '') || 'root' : name));
        if (why !== null) onOther(name, why);
        else if (type !== 'directory') yield { name, offset: at + BLOCK, size, header: crc32c(block) };
        [pax, path] = [global, null];
      }
      at = next;
    }
    if (!ended) fail(at, 'ends without the mark of a tar’s end: it may be cut off');
  }
  return {
    members: members(),
    bytes(member, most) {
      if (member.size > most) throw new FileError(file.name, `${quoted(member.name)} has ${member.size} bytes; ${most} are the most that is read`);
      const bytes = Uint8Array.from(read(member.offset, member.size));
      if (bytes.length < member.size) throw new FileError(file.name, `is cut off within ${quoted(member.name)}`);
      return bytes;
    },
  };
}

/** Where a picture lies in a tar, as a dataset keeps it. */
export type TarPlace = Pick<TarMember, 'offset' | 'size' | 'header'>;

/** The bytes of a member, if it is still where it was. Throws a FileError that names `what` where the tar has changed. */
export function memberAt(file: ByteSource, { offset, size, header }: TarPlace, what: string): Uint8Array {
  const gone = () => new FileError(file.name, `has changed: ${quoted(what)} is no longer at byte ${offset}; run prepare again`);
  if (offset < BLOCK || offset + size > file.size) throw gone();
  const bytes = file.read(offset - BLOCK, BLOCK + size);
  if (bytes.length < BLOCK + size || crc32c(bytes.subarray(0, BLOCK)) !== header) throw gone();
  return bytes.subarray(BLOCK);
}
