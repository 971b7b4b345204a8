/** The course: chapters 0 to 9 in order, every exercise in its chapter, pictures as their script draws them. CI runs its commands. */
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { PICTURES } from '../scripts/course_pictures.ts';
import { BUGS, EXERCISES } from '../src/study/exercises.ts';

const COURSE = resolve(import.meta.dirname, '../docs/course');
const index = readFileSync(join(COURSE, 'README.md'), 'utf8');
const chapters = [...index.matchAll(/^\| \[(\d)\]\((\d-[\w-]+\.md)\)/gm)].map(([, number, file]) => ({
  number: Number(number),
  file,
  text: readFileSync(join(COURSE, file), 'utf8'),
}));

test('ten chapters, each with its number, a first paragraph, and a command whose output it shows', () => {
  expect(chapters.map(({ number }) => number)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  for (const { number, file, text } of chapters) {
    const [title, , first] = text.split('\n');
    expect(title, file).toMatch(new RegExp(`^# ${number}\\. \\S`));
    expect(first.split(' ').length, `${file}: the first paragraph is read without the rest`).toBeGreaterThan(10);
    expect(text, file).toMatch(/```sh\nnpx glimpse .* # shows\n```\n\n```text\n.*\S/);
    for (const [, target] of text.matchAll(/\]\((?!http)([^)#]+)/g)) expect(existsSync(join(COURSE, target)), `${file} → ${target}`).toBe(true);
  }
});

test('every exercise is named in its chapter', () => {
  for (const { number, chapter } of EXERCISES) expect(chapters[chapter].text, number).toMatch(new RegExp(`[Ee]xercises?\\b[^\\n]*\\b${Number(number)}\\b`));
  expect(chapters[9].text).toContain(`${BUGS[0].number} to ${BUGS[BUGS.length - 1].number}`);
});

test.each(Object.entries(PICTURES))('%s is what its script draws, and a chapter shows it', (name, picture) => {
  expect(readFileSync(join(COURSE, name), 'utf8')).toBe(picture);
  expect(chapters.some(({ text }) => text.includes(`](${name})`))).toBe(true);
});
