/** Fixtures that coco-caption, the reference implementation of the scores, has computed. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { dataFolder } from './support.ts';

const root = dataFolder('the fixtures of coco-caption');

export const hasFixtures = root !== null;

/** Where METEOR's own list of function words lies. */
export const functionWords = root && join(root, 'meteor', 'english.words');

/** The contents of a fixture; each has a form of its own. */
export function fixture(name: string): any {
  return JSON.parse(readFileSync(join(root as string, 'metrics', name), 'utf8'));
}

/** Words of a caption that is tokens with blanks between. */
export const split = (text: string): string[] => (text === '' ? [] : text.split(' '));
