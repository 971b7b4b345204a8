/** COCO's files of captions: references in the format of its annotations, candidates in the format of its evaluation. */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { z } from 'zod';
import { FileError, messageOf } from '../errors.ts';

const Id = z.union([z.string(), z.number()]);
const References = z.object({ annotations: z.array(z.object({ image_id: Id, caption: z.string() })) });
const Results = z.array(z.object({ image_id: Id, caption: z.string() }));

function parse<T>(path: string, schema: z.ZodType<T>, what: string): T {
  try {
    return schema.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch (error) {
    throw new FileError(path, `is no ${what}: ${messageOf(error).slice(0, 400)}`);
  }
}

function captionsByImage({ annotations }: z.infer<typeof References>): Map<string, string[]> {
  const byImage = new Map<string, string[]>();
  for (const { image_id, caption } of annotations) {
    const list = byImage.get(String(image_id));
    if (list) list.push(caption);
    else byImage.set(String(image_id), [caption]);
  }
  return byImage;
}

/** Reference captions by picture. */
export function readReferences(path: string): Map<string, string[]> {
  return captionsByImage(parse(path, References, 'COCO file of annotations ({"annotations": [{"image_id", "caption"}]})'));
}

/** Candidate captions. Throws a FileError if a picture has two. */
export function readResults(path: string): { image_id: string | number; caption: string }[] {
  const results = parse(path, Results, 'COCO results file ([{"image_id", "caption"}])');
  const seen = new Set<string>();
  for (const { image_id } of results) {
    if (seen.has(String(image_id))) throw new FileError(path, `has two captions for picture ${image_id}`);
    seen.add(String(image_id));
  }
  return results;
}

const Named = References.extend({ images: z.array(z.object({ id: Id, file_name: z.string() })) });

/** Reference captions by file name. */
export function readReferencesByFile(path: string): Map<string, string[]> {
  const named = parse(path, Named, 'COCO file of annotations with its images ({"images": [{"id", "file_name"}], "annotations": […]})');
  const byId = captionsByImage(named);
  return new Map(named.images.map(({ id, file_name }) => [basename(file_name), byId.get(String(id)) ?? []]));
}
