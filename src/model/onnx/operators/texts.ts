/** Operators on texts: they are computed on the host. RegexFullMatch is not among them: a hostile pattern could take any time. */
import { broadcastShapes, broadcastStrides, sizeOf } from '../../../tensor/shape.ts';
import { bounded, ints as intsOf, places } from '../host.ts';
import { attribute, type Check, type Context, fail, flag, int, ints as intList, numberOf, type Operators, text, wordOf } from '../operator.ts';
import type { OnnxNode } from '../proto.ts';
import { type HostTensor, type HostText, isDevice, isHost, typeName, typeOf } from '../values.ts';
import { shown } from '../wire.ts';

/** Most characters that the texts of one node may have, and most steps that it may take. */
const MOST_CHARACTERS = 1 << 24;
const MOST_STEPS = 1 << 26;

function textIn(c: Context, i: number): HostText {
  const value = c.value(i);
  return !isDevice(value) && value.kind === 'text' ? value : fail(`${c.what(i)} holds ${typeName(value)}, texts are expected`);
}

function textList(node: OnnxNode, name: string): string[] | null {
  const value = node.attributes.get(name);
  return Array.isArray(value) ? value.map(String) : null;
}

function checkNormalizer(node: OnnxNode, c: Check): void {
  const action = wordOf(node, 'case_change_action', 'NONE');
  if (!['NONE', 'LOWER', 'UPPER'].includes(action)) c.fail(`case_change_action "${shown(action)}"; NONE, LOWER or UPPER is expected`);
}

/** Texts without stop words, in one case. The rules for letters are Unicode's own, whatever the locale. */
function normalized(c: Context): HostText {
  const x = textIn(c, 0);
  const row = x.shape.length === 2 && x.shape[0] === 1;
  if (!row && x.shape.length !== 1) fail(`[${x.shape}]; one row of texts is expected`);
  const isSensitive = c.number('is_case_sensitive', 0) === 1;
  const key = (word: string) => (isSensitive ? word : word.toLowerCase());
  const stops = new Set((textList(c.node, 'stopwords') ?? []).map(key));
  const action = wordOf(c.node, 'case_change_action', 'NONE');
  const changed = (word: string) => (action === 'LOWER' ? word.toLowerCase() : action === 'UPPER' ? word.toUpperCase() : word);
  const kept = x.data.filter((word) => !stops.has(key(word))).map(changed);
  const data = kept.length > 0 ? kept : ['']; // ONNX's rule for nothing that is left
  return { kind: 'text', shape: row ? [1, data.length] : [data.length], data };
}

function concatenated(c: Context): HostText {
  const [a, b] = [textIn(c, 0), textIn(c, 1)];
  const shape = bounded(broadcastShapes(a.shape, b.shape, c.node.op));
  const [from, other] = [a, b].map((each) => places(shape, broadcastStrides(each.shape, shape)));
  let length = 0;
  const data: string[] = [];
  for (let i = 0; i < from.length; i++) {
    length += a.data[from[i]].length + b.data[other[i]].length;
    if (length > MOST_CHARACTERS) fail(`texts of more than ${MOST_CHARACTERS} characters`);
    data.push(a.data[from[i]] + b.data[other[i]]);
  }
  return { kind: 'text', shape, data };
}

/** The parts of a text: between delimiters, or between runs of white space. The last of at most `most` cuts leaves the rest as it is. */
function partsOf(whole: string, delimiter: string, most: number): string[] {
  const parts: string[] = [];
  if (delimiter !== '') {
    let from = 0;
    while (parts.length < most) {
      const at = whole.indexOf(delimiter, from);
      if (at < 0) break;
      parts.push(whole.slice(from, at));
      from = at + delimiter.length;
    }
    return [...parts, whole.slice(from)];
  }
  let rest = whole.trimStart();
  while (rest !== '' && parts.length < most) {
    const at = rest.search(/\s/);
    if (at < 0) break;
    parts.push(rest.slice(0, at));
    rest = rest.slice(at).trimStart();
  }
  return rest === '' ? parts : [...parts, parts.length < most ? rest.trimEnd() : rest];
}

function split(c: Context): [HostText, HostTensor] {
  const x = textIn(c, 0);
  const most = c.number('maxsplit', Number.POSITIVE_INFINITY);
  if (!(most > 0)) fail(`maxsplit ${most}`);
  if (x.data.reduce((sum, each) => sum + each.length, 0) > MOST_CHARACTERS) fail(`texts of more than ${MOST_CHARACTERS} characters`);
  const parts = x.data.map((each) => partsOf(each, wordOf(c.node, 'delimiter', ''), most));
  const width = parts.reduce((longest, { length }) => Math.max(longest, length), 0);
  const shape = bounded([...x.shape, width]);
  const counts = parts.map(({ length }) => length);
  return [{ kind: 'text', shape, data: parts.flatMap((each) => [...each, ...new Array<string>(width - each.length).fill('')]) }, intsOf([...x.shape], counts)];
}

/** The n-grams of a TfIdfVectorizer as a tree: what may come next, and the number of the n-gram that ends here. */
interface Gram {
  next: Map<string | number, Gram>;
  id: number | null;
}

/** The n-grams that a node names, and how long each pool is. Throws a GlimpseError for lists that contradict each other. */
function gramsOf(node: OnnxNode): { root: Gram; count: number } {
  const pool = textList(node, 'pool_strings') ?? (node.attributes.get('pool_int64s') as number[] | undefined) ?? [];
  const starts = (node.attributes.get('ngram_counts') as number[] | undefined) ?? [];
  const root: Gram = { next: new Map(), id: null };
  let count = 0;
  for (const [i, start] of starts.entries()) {
    const length = i + 1;
    const end = starts[i + 1] ?? pool.length;
    if (!(start >= 0 && start <= end && end <= pool.length) || (end - start) % length !== 0)
      fail(`ngram_counts [${starts}] do not divide ${pool.length} items`);
    for (let at = start; at < end; at += length) {
      let gram = root;
      for (let k = 0; k < length; k++) {
        const item = pool[at + k];
        const next: Gram = gram.next.get(item) ?? { next: new Map(), id: null };
        gram.next.set(item, next);
        gram = next;
      }
      if (gram.id !== null) fail('an n-gram is there twice');
      gram.id = count++;
    }
  }
  return { root, count };
}

function checkVectorizer(node: OnnxNode, c: Check): void {
  const mode = wordOf(node, 'mode', '');
  if (!['TF', 'IDF', 'TFIDF'].includes(mode)) c.fail(`mode "${shown(mode)}"; TF, IDF or TFIDF is expected`);
  if (node.attributes.has('pool_strings') === node.attributes.has('pool_int64s')) c.fail('has no pool of n-grams, or two');
  const [low, high, skip] = ['min_gram_length', 'max_gram_length', 'max_skip_count'].map((name) => numberOf(node, name, 0));
  if (!(low >= 1 && high >= low && skip >= 0)) c.fail(`n-grams of ${low} to ${high} items with ${skip} left out between them`);
}

/** How often each n-gram comes in a row of texts or whole numbers, weighted. Items of an n-gram may lie apart by equal distances. */
function vectorized(c: Context): HostTensor {
  const x = c.value(0);
  if (isDevice(x) || (x.kind !== 'text' && !isHost(x)) || (isHost(x) && typeOf(x).kind !== 'int'))
    return fail(`${c.what(0)} holds ${typeName(x)}; texts or whole numbers are expected`);
  if ((x.kind === 'text') !== c.node.attributes.has('pool_strings')) fail(`${c.what(0)} holds ${typeName(x)}, its n-grams others`);
  const [batch, length] = x.shape.length === 2 ? x.shape : [1, x.shape[0]];
  if (x.shape.length !== 1 && x.shape.length !== 2) fail(`[${x.shape}]; one row, or several, are expected`);
  const { root, count } = gramsOf(c.node);
  const slots = c.list('ngram_indexes') ?? [];
  const weights = c.list('weights');
  if (slots.length !== count || slots.some((slot) => !(slot >= 0)) || (weights && weights.length !== count))
    fail(`${count} n-grams, ${slots.length} places and ${weights?.length ?? count} weights`);
  const width = slots.reduce((most, slot) => Math.max(most, slot + 1), 0);
  const [low, high, skip] = ['min_gram_length', 'max_gram_length', 'max_skip_count'].map((name) => c.number(name, 0));
  const shape = bounded(x.shape.length === 2 ? [batch, width] : [width]);
  const distances = Math.min(skip + 1, Math.max(1, length));
  const steps = count + batch * length * distances * Math.min(high, length);
  if (steps > MOST_STEPS) fail(`more than ${MOST_STEPS} n-grams to look at`);
  c.model.budget.spend(steps);
  const mode = wordOf(c.node, 'mode', '');
  const data = new Float32Array(sizeOf(shape));
  for (let row = 0; row < batch; row++) {
    const counts = new Map<number, number>();
    for (let distance = 1; distance <= distances; distance++)
      for (let start = 0; start < length; start++) {
        let gram: Gram | undefined = root;
        for (let size = 1, at = start; size <= high && at < length; size++, at += distance) {
          gram = gram?.next.get(x.data[row * length + at]);
          if (!gram) break;
          // What is one item long has no distances.
          if (gram.id !== null && size >= low && (size > 1 || distance === 1)) counts.set(gram.id, (counts.get(gram.id) ?? 0) + 1);
        }
      }
    for (const [id, times] of Array.from(counts).sort(([a], [b]) => a - b)) {
      const weight = mode === 'TF' ? 1 : (weights?.[id] ?? 1);
      data[row * width + slots[id]] = (mode === 'IDF' ? 1 : times) * weight;
    }
  }
  return { kind: 'float', shape, data };
}

const needed = (kind: 'int' | 'ints' | 'string') => attribute(kind, { required: true });

export const TEXTS: Operators = {
  StringNormalizer: {
    inputs: [1, 1],
    attributes: { case_change_action: text, is_case_sensitive: flag, locale: text, stopwords: attribute('strings') },
    check: checkNormalizer,
    any: normalized,
  },
  TfIdfVectorizer: {
    inputs: [1, 1],
    attributes: {
      ...{ max_gram_length: needed('int'), max_skip_count: needed('int'), min_gram_length: needed('int'), mode: needed('string') },
      ...{ ngram_counts: needed('ints'), ngram_indexes: needed('ints') },
      ...{ pool_int64s: intList, pool_strings: attribute('strings'), weights: attribute('floats') },
    },
    read: [0],
    check: checkVectorizer,
    any: vectorized,
  },
  StringConcat: { inputs: [2, 2], attributes: {}, any: concatenated },
  StringSplit: { inputs: [1, 1], outputs: [1, 2], attributes: { delimiter: text, maxsplit: int }, any: split },
};
