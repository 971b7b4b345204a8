/** Finds pictures: in folders that people name, and by the names that captions give them. What is passed over is told with its cause. */
import { existsSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Counted, counted, examplesOf } from '../counted.ts';
import { FileError } from '../errors.ts';
import { onFile } from './atomic_file.ts';
import { insideFolder } from './file_source.ts';
import { decodes, headOf, pictureFormat } from './picture_format.ts';

/** Files with these endings are meant as pictures: where one is bad, it is a fault and not something else. */
const PICTURE = /\.(jpe?g|jfif|png|webp|gif|tiff?|avif)$/i;
const TAKEN = '.jpg, .png, .webp, .gif, .tiff, .avif';

/** A file that was left out, and why. */
export interface LeftOut {
  path: string;
  why: string;
}

/** A count of left-out files. The examples say why. */
export const countLeftOut = (list: readonly LeftOut[]): Counted => counted(list.map(({ path, why }) => `${path}: ${why}`));

/** Why a file without the ending of a picture is none; null if its first bytes are those of a photograph. */
async function whyNone(path: string, name: string): Promise<string | null> {
  try {
    if (!statSync(path).isFile()) return statSync(path).isDirectory() ? 'a folder within the folder is not searched' : 'no ordinary file';
    const format = pictureFormat(await headOf(path));
    if (format === null) return 'no picture';
    if (format === 'SVG') return 'a drawing; name it itself to take it';
    if (!decodes(format)) return `${format} cannot be decoded here; convert it, e.g. to JPEG`;
    return name.startsWith('.') ? 'a hidden file' : null;
  } catch {
    return 'cannot be opened';
  }
}

/**
 * Files as given, and the pictures in the folders among them, by name. A file of a folder is a picture by its ending, or by its
 * first bytes; the others are left out. Throws a FileError for a folder without any.
 */
export async function picturesIn(given: readonly string[]): Promise<{ pictures: string[]; leftOut: LeftOut[] }> {
  const [pictures, leftOut] = [[] as string[], [] as LeftOut[]];
  for (const path of given) {
    if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) {
      pictures.push(path);
      continue;
    }
    const before = { pictures: pictures.length, leftOut: leftOut.length };
    for (const name of onFile(path, () => readdirSync(path)).sort()) {
      const file = join(path, name);
      // Beside pictures on foreign disks, macOS keeps files of the same ending that hold no picture.
      const why = name.startsWith('._') ? 'no picture, but what macOS keeps beside one' : PICTURE.test(name) ? null : await whyNone(file, name);
      if (why === null) pictures.push(file);
      else leftOut.push({ path: file, why });
    }
    if (pictures.length === before.pictures) throw new FileError(path, `holds no picture (${TAKEN})${examplesOf(countLeftOut(leftOut.slice(before.leftOut)))}`);
  }
  return { pictures, leftOut };
}

/**
 * The path of a picture that a list or a dataset names. Throws a FileError if it is a link that leads out of the folder, unless the
 * user allows such links. A list from outside must not choose among all files of the machine.
 */
export function picturePath(folder: string, file: string, followLinks: boolean): string {
  const path = join(folder, file);
  if (followLinks || !existsSync(path) || insideFolder(folder, path)) return path; // an absent picture has a message of its own
  throw new FileError(path, `is a link that leads out of ${folder}, to ${realpathSync(path)}; allow such pictures with --follow-links`);
}

/** A folder of pictures, by the names that captions give them. macOS stores accents in another form than most captions have. */
export class PictureFolder {
  private readonly listings = new Map<string, Map<string, string>>();

  constructor(readonly path: string) {}

  private listing(folder: string): Map<string, string> {
    const known = this.listings.get(folder);
    if (known) return known;
    const names = statSync(folder, { throwIfNoEntry: false })?.isDirectory() ? onFile(folder, () => readdirSync(folder)) : [];
    const made = new Map(names.map((name) => [name.normalize('NFC'), name]));
    this.listings.set(folder, made);
    return made;
  }

  /** The name of a picture as the disk has it, within the folder; null if there is none. */
  find(file: string): string | null {
    const found: string[] = [];
    for (const part of file.split('/')) {
      const name = this.listing(join(this.path, ...found)).get(part.normalize('NFC'));
      if (name === undefined) return null;
      found.push(name);
    }
    return found.join('/');
  }

  /** Files beside the given ones that are not among them. Names are within the folder. */
  others(files: readonly string[]): string[] {
    const known = new Set(files.map((file) => file.normalize('NFC')));
    const folders = new Set(files.map((file) => dirname(file)));
    return [...folders].flatMap((folder) => {
      const names = [...this.listing(join(this.path, folder)).values()].map((name) => (folder === '.' ? name : `${folder}/${name}`));
      return names.filter((name) => !known.has(name.normalize('NFC')) && !statSync(join(this.path, name), { throwIfNoEntry: false })?.isDirectory());
    });
  }
}
