/** A part of a page that a script makes: it stands between two lines, and all else is left as it is. */

/** The page with other text between the lines `first` and `last`. Throws if it lacks them. */
export function withPart(page: string, first: string, last: string, text: string): string {
  const [start, end] = [page.indexOf(first), page.indexOf(last)];
  if (start < 0 || end < start) throw new Error(`the page needs a line "${first}" and, after it, a line "${last}"`);
  return `${page.slice(0, start)}${first}\n\n${text}\n\n${page.slice(end)}`;
}
