/** Words that a caption should not end with. Self-critical training is known to learn such endings. */
const FUNCTION_WORDS = new Set(
  'a an the and or but of in on at to with for from by as is are was were be been being it its his her their this that these those which who while'.split(' '),
);

export function endsInFunctionWord(words: readonly string[]): boolean {
  return words.length > 0 && FUNCTION_WORDS.has(words[words.length - 1]);
}
