/**
 * COCO's files of captions: references in the format of its annotations, candidates in the format of its evaluation. Pictures are
 * joined by their ids, with all digits, or by the names of their files.
 */
import { resolve } from 'node:path';
import { z } from 'zod';
import { type Counted, counted, examplesOf } from '../counted.ts';
import { FileError } from '../errors.ts';
import { distinctPictures, idText } from './captions.ts';
import { readText } from './text.ts';
import { exactJson, parseJson, quoted } from './validation.ts';

const Id = z.union([z.string(), z.number(), z.bigint()]);
const Image = z.object({ id: Id, file_name: z.string().optional() });
const References = z.object({ images: z.array(Image).optional(), annotations: z.array(z.object({ image_id: Id, caption: z.string() })) });
const Named = References.extend({ images: z.array(Image.required({ file_name: true })) });
const Results = z.array(z.object({ image_id: Id, caption: z.string() }));

const FORM = 'is no COCO file of annotations ({"annotations": [{"image_id", "caption"}]})';
const NAMED_FORM = 'is no COCO file of annotations with its images ({"images": [{"id", "file_name"}], "annotations": […]})';
const RESULTS_FORM = 'is no COCO results file ([{"image_id", "caption"}])';

/** An id as reports give it: a number where numbers have room for it, else its text. */
const reported = (id: z.infer<typeof Id>): string | number => (typeof id === 'bigint' ? String(id) : id);

/** An id of a dataset as reports give it. */
export function reportedId(id: string): string | number {
  const value: unknown = JSON.parse(id);
  return typeof value === 'number' && !(Number.isInteger(value) && !Number.isSafeInteger(value)) ? value : idText(id);
}

/** Captions by image as COCO results. `id` is JSON, so that numbers stay numbers and keep their digits. */
export function resultsText(captions: readonly { id: string; caption: string }[]): string {
  return `[${captions.map(({ id, caption }) => `{"image_id":${id},"caption":${JSON.stringify(caption)}}`).join(',')}]`;
}

/** Reference captions by picture, and the names of their files where these are listed. */
export interface ReferenceCaptions {
  byId: Map<string, string[]>;
  files: ReferenceFiles;
}

function referencesOf(path: string, { images = [], annotations }: z.infer<typeof References>): ReferenceCaptions {
  const byId = new Map<string, string[]>();
  for (const { image_id, caption } of annotations) {
    const list = byId.get(String(image_id));
    if (list) list.push(caption);
    else byId.set(String(image_id), [caption]);
  }
  const listed = images.flatMap(({ id, file_name: file }) => {
    const text = String(id);
    return file === undefined ? [] : [{ file, split: null, captions: byId.get(text) ?? [], id: JSON.stringify(text), source: { path } }];
  });
  return { byId, files: new ReferenceFiles(path, distinctPictures(listed)) };
}

/** Reference captions by picture. */
export function readReferences(path: string, encoding?: string): ReferenceCaptions {
  return referencesOf(path, parseJson(path, readText(path, encoding), References, FORM, exactJson));
}

/** Reference captions by the names of the pictures' files. Throws a FileError if the file does not name them. */
export function readReferencesByFile(path: string, encoding?: string): ReferenceFiles {
  return referencesOf(path, parseJson(path, readText(path, encoding), Named, NAMED_FORM, exactJson)).files;
}

const partsOf = (path: string) =>
  path
    .normalize('NFC')
    .split(/[\\/]/)
    .filter((part) => part !== '' && part !== '.');

/** How many parts two paths share at their end. */
function sharedEnd(a: readonly string[], b: readonly string[]): number {
  let count = 0;
  while (count < a.length && count < b.length && a[a.length - 1 - count] === b[b.length - 1 - count]) count++;
  return count;
}

interface Reference {
  file: string;
  parts: string[];
  id: string;
  captions: string[];
}

/** References that are found by file. */
export class ReferenceFiles {
  private readonly byName = new Map<string, Reference[]>();

  constructor(
    private readonly path: string,
    images: readonly { file: string; captions: string[]; id?: string }[],
  ) {
    for (const { file, captions, id = '' } of images) {
      const parts = partsOf(file);
      const name = parts[parts.length - 1] ?? '';
      const sameName = this.byName.get(name) ?? [];
      sameName.push({ file, parts, id: idText(id), captions });
      this.byName.set(name, sameName);
    }
  }

  /**
   * The reference whose path shares most parts with a picture's, from the end; one that is shared whole wins. Null if not even the
   * file's name is there. Throws a FileError that names both where two fit equally well.
   */
  find(picture: string): (Reference & { shared: number }) | null {
    const parts = partsOf(picture);
    const found = (this.byName.get(parts[parts.length - 1] ?? '') ?? []).map((reference) => {
      const shared = sharedEnd(reference.parts, parts);
      return { ...reference, shared, fit: 2 * shared + (shared === reference.parts.length ? 1 : 0) };
    });
    const best = found.reduce((most, { fit }) => Math.max(most, fit), 0);
    const [first, second] = found.filter(({ fit }) => fit === best);
    if (second) throw new FileError(this.path, `${quoted(picture)} may be ${quoted(first.file)} or ${quoted(second.file)}: their paths fit it equally well`);
    return first ?? null;
  }

  /**
   * The captions of each picture, which may be none. A reference belongs to the picture that shares most of its path. Throws a
   * FileError that names both where two pictures share equally much.
   */
  captionsOf(pictures: readonly string[]): string[][] {
    const found = pictures.map((picture) => this.find(resolve(picture)));
    const owners = new Map<string, { picture: string; shared: number }>();
    for (const [i, reference] of found.entries()) {
      if (!reference) continue;
      const [picture, owner] = [resolve(pictures[i]), owners.get(reference.file)];
      if (owner && owner.picture !== picture && owner.shared === reference.shared)
        throw new FileError(this.path, `the references of ${quoted(reference.file)} may belong to ${quoted(owner.picture)} or to ${quoted(picture)}`);
      if (!owner || reference.shared > owner.shared) owners.set(reference.file, { picture, shared: reference.shared });
    }
    return found.map((reference, i) => (reference && owners.get(reference.file)?.picture === resolve(pictures[i]) ? reference.captions : []));
  }
}

/** Candidate captions. Throws a FileError if a picture has two. */
export function readResults(path: string, encoding?: string): z.infer<typeof Results> {
  const results = parseJson(path, readText(path, encoding), Results, RESULTS_FORM, exactJson);
  const seen = new Set<string>();
  for (const { image_id } of results) {
    const id = String(image_id);
    if (seen.has(id)) throw new FileError(path, `has two captions for picture ${printableId(id)}`);
    seen.add(id);
  }
  return results;
}

/** A candidate with its references. */
export interface JoinedCaption {
  image_id: string | number;
  caption: string;
  references: string[];
}

/**
 * Joins candidate captions with their references: by id, else by the name of the picture's file, which older results have. Throws
 * a FileError for a candidate without reference, and for a picture with two candidates.
 */
export function joinResults(
  referencesPath: string,
  resultsPath: string,
  encoding?: string,
): { joined: JoinedCaption[]; pictures: number; withoutCandidate: Counted } {
  const { byId, files } = readReferences(referencesPath, encoding);
  const results = readResults(resultsPath, encoding).map((each) => {
    const text = String(each.image_id);
    return { ...each, text, id: byId.has(text) ? text : (files.find(text)?.id ?? text) };
  });
  const strange = counted(results.filter(({ id }) => !byId.has(id)).map(({ text }) => `picture ${printableId(text)}`));
  if (strange.count > 0)
    throw new FileError(
      resultsPath,
      `has captions of pictures for which ${referencesPath} has no reference: ${strange.count} of ${results.length}${examplesOf(strange)}`,
    );
  const seen = new Set<string>();
  const joined = results.map(({ image_id, caption, text, id }) => {
    if (seen.has(id)) throw new FileError(resultsPath, `has two captions for picture ${printableId(text)}`);
    seen.add(id);
    return { image_id: reported(image_id), caption, references: byId.get(id) as string[] };
  });
  return { joined, pictures: byId.size, withoutCandidate: counted([...byId.keys()].filter((id) => !seen.has(id))) };
}

const printableId = (text: string) => (/^-?\d+$/.test(text) ? text : quoted(text));
