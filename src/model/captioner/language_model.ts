/**
 * A language model as the start of a decoder: GPT-2 (Radford and others 2019) as Hugging Face stores it, a folder with `config.json`,
 * `model.safetensors` and the files of its tokenizer. What the configuration does not say has the default of its class in transformers 4.
 * A model that would be computed otherwise here is refused.
 *
 * Its products are stored as [in, out], as here. Of the embedding, the rows of the dataset's words are taken. startseq and endseq are the
 * model's own tokens for the begin and end of a text. Where the file has cross-attention, that is taken, too.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { openFile } from '../../data/file_source.ts';
import { CONFIG, Count, readModelConfig, WEIGHTS, Width } from '../../data/hugging_face.ts';
import { parseWeights, type StoredWeight } from '../../data/safetensors_format.ts';
import { readTokenIds } from '../../data/tokenizer_files.ts';
import { checkedBy, quoted } from '../../data/validation.ts';
import { SPECIAL_WORDS, START } from '../../data/words.ts';
import { FileError, GlimpseError } from '../../errors.ts';
import type { NamedArray } from '../../nn/parameters.ts';
import { printable } from '../../printable.ts';

const VERDICT = 'is no configuration of a language model that can be read';

/** The sizes of a language model. */
export interface LanguageSizes {
  width: number;
  layers: number;
  heads: number;
  positions: number;
}

export interface LanguageModel extends LanguageSizes {
  /** The captioner's parameters that it brings, by their names here (transformer.ts). */
  weights: ReadonlyMap<string, NamedArray>;
  /** What a user should know of the files. */
  notes: string[];
}

const Config = z.object({
  n_embd: Width.default(768),
  n_layer: Count.default(12),
  n_head: Count.default(12),
  n_positions: z
    .number()
    .int()
    .min(1)
    .max(1 << 20)
    .default(1024),
  n_inner: Width.nullable().default(null),
  vocab_size: z.number().int().min(1).default(50_257),
  activation_function: z.enum(['gelu_new', 'gelu_pytorch_tanh']).default('gelu_new'),
  layer_norm_epsilon: z.literal(1e-5).default(1e-5),
  scale_attn_weights: z.literal(true).default(true),
  scale_attn_by_inverse_layer_idx: z.literal(false).default(false),
  tie_word_embeddings: z.literal(true).default(true),
  bos_token_id: z.number().int().nonnegative().default(50_256),
  eos_token_id: z.number().int().nonnegative().default(50_256),
});
type Config = z.infer<typeof Config>;

/** Width of the feed-forward part, in widths of the layer. */
const FEED_FORWARD = 4;

function readConfig(path: string): Config {
  const found = readModelConfig(path, VERDICT);
  if (found.model_type !== 'gpt2') throw new FileError(path, `model_type ${quoted(found.model_type)} is not read; gpt2 is`);
  const config = checkedBy(path, Config, found, VERDICT);
  const { n_embd: width, n_head: heads, n_inner: inner, vocab_size: words } = config;
  if (width % heads !== 0) throw new FileError(path, `${heads} attention heads do not share a width of ${width} evenly`);
  if (inner !== null && inner !== FEED_FORWARD * width) throw new FileError(path, `n_inner is ${inner}; ${FEED_FORWARD * width} or null is read`);
  for (const name of ['bos_token_id', 'eos_token_id'] as const)
    if (config[name] >= words) throw new FileError(path, `${name} is ${config[name]}, but there are only ${words} tokens`);
  return config;
}

/** A tensor of the file → a parameter here. A parameter may be made of several, which stand side by side. */
interface Source {
  parameter: string;
  tensor: string;
  shape: number[];
}

/** A product [from, to] with its bias. */
const product = (tensor: string, parameter: string, from: number, to: number): Source[] => [
  { parameter: `${parameter}_w`, tensor: `${tensor}.weight`, shape: [from, to] },
  { parameter: `${parameter}_b`, tensor: `${tensor}.bias`, shape: [to] },
];

const norm = (tensor: string, parameter: string, width: number): Source[] => [
  { parameter: `${parameter}_g`, tensor: `${tensor}.weight`, shape: [width] },
  { parameter: `${parameter}_b`, tensor: `${tensor}.bias`, shape: [width] },
];

/** The tensors of a layer, in the file and here. */
const layerSources = (i: number, width: number): Source[] => [
  ...norm(`h.${i}.ln_1`, `layer${i}.norm1`, width),
  ...product(`h.${i}.attn.c_attn`, `layer${i}.self`, width, 3 * width),
  ...product(`h.${i}.attn.c_proj`, `layer${i}.self_out`, width, width),
  ...norm(`h.${i}.ln_2`, `layer${i}.norm3`, width),
  ...product(`h.${i}.mlp.c_fc`, `layer${i}.inner`, width, FEED_FORWARD * width),
  ...product(`h.${i}.mlp.c_proj`, `layer${i}.outer`, FEED_FORWARD * width, width),
];

/** Those of its cross-attention. The keys and values of all layers are one parameter. */
const crossSources = (i: number, width: number): Source[] => [
  ...norm(`h.${i}.ln_cross_attn`, `layer${i}.norm2`, width),
  ...product(`h.${i}.crossattention.q_attn`, `layer${i}.query`, width, width),
  ...product(`h.${i}.crossattention.c_attn`, 'memory', width, 2 * width),
  ...product(`h.${i}.crossattention.c_proj`, `layer${i}.cross_out`, width, width),
];

/** Masks that older files hold, and the scores of the words where they are stored besides the embedding that they are tied to. */
const UNUSED = /^(h\.\d+\.(attn|crossattention)\.(bias|masked_bias)|lm_head\.weight)$/;

/** Matrices [n, m1], [n, m2], … side by side: [n, m1 + m2 + …]; vectors one after the other. */
function sideBySide(parts: readonly NamedArray[]): NamedArray {
  if (parts.length === 1) return parts[0];
  const rows = parts[0].shape.length === 1 ? 1 : parts[0].shape[0];
  const widths = parts.map(({ data }) => data.length / rows);
  const width = widths.reduce((sum, each) => sum + each, 0);
  const data = new Float32Array(rows * width);
  let first = 0;
  for (const [k, part] of parts.entries()) {
    for (let r = 0; r < rows; r++) data.set(part.data.subarray(r * widths[k], (r + 1) * widths[k]), r * width + first);
    first += widths[k];
  }
  return { shape: parts[0].shape.length === 1 ? [width] : [rows, width], data };
}

/** The rows of the embedding for the dataset's words. Throws a GlimpseError for a word that the language model does not have. */
function embeddingRows(
  wte: Float32Array,
  { n_embd: width, bos_token_id: begin, eos_token_id: end }: Config,
  folder: string,
  vocabulary: readonly string[],
): NamedArray {
  const ids = readTokenIds(folder);
  const data = new Float32Array(vocabulary.length * width);
  for (const [id, token] of vocabulary.entries()) {
    const own = id < SPECIAL_WORDS.length ? (id === START ? begin : end) : ids.get(token);
    if (own === undefined || own * width >= wte.length)
      throw new GlimpseError(
        `${folder} has no token ${quoted(token)} of the dataset; glimpse prepare --tokenizer ${printable(folder)} makes one of its tokens`,
      );
    data.set(wte.subarray(own * width, (own + 1) * width), id * width);
  }
  return { shape: [vocabulary.length, width], data };
}

/**
 * Reads a language model for a dataset whose words are its tokens. `crosses` asks for cross-attention where the file has it. Throws a
 * FileError that names the field or the tensor which does not fit.
 */
export function readLanguageModel(folder: string, vocabulary: readonly string[], crosses: boolean): LanguageModel {
  const config = readConfig(join(folder, CONFIG));
  const { n_embd: width, n_layer: layers, n_head: heads, n_positions: positions, vocab_size: words } = config;
  const path = join(folder, WEIGHTS);
  const file = openFile(path);
  try {
    const stored = parseWeights(file);
    const prefix = stored.has('transformer.wte.weight') ? 'transformer.' : '';
    const bare = new Map([...stored].map(([name, weight]) => [name.startsWith(prefix) ? name.slice(prefix.length) : name, weight]));
    const isCrossed = bare.has('h.0.crossattention.c_attn.weight');
    const numbers = Array.from({ length: layers }, (_, i) => i);
    const crossed = isCrossed ? numbers.flatMap((i) => crossSources(i, width)) : [];
    const own: Source[] = [
      { parameter: 'positions', tensor: 'wpe.weight', shape: [positions, width] },
      ...numbers.flatMap((i) => layerSources(i, width)),
      ...norm('ln_f', 'final', width),
    ];
    const embedding: Source = { parameter: 'emb', tensor: 'wte.weight', shape: [words, width] };
    const known = new Map([embedding, ...own, ...crossed].map((source) => [source.tensor, source]));
    for (const { tensor, shape } of known.values()) checkTensor(path, prefix + tensor, bare.get(tensor), shape);
    const stranger = [...bare.keys()].find((name) => !known.has(name) && !UNUSED.test(name));
    if (stranger !== undefined) throw new FileError(path, `has a tensor ${quoted(stranger)}, which a gpt2 of ${layers} layers has not`);

    const load = (tensor: string, shape: number[]): NamedArray => ({ shape, data: (bare.get(tensor) as StoredWeight).load() });
    const taken = [...own, ...(crosses ? crossed : [])];
    const parts = new Map<string, NamedArray[]>();
    for (const { parameter, tensor, shape } of taken) parts.set(parameter, [...(parts.get(parameter) ?? []), load(tensor, shape)]);
    const weights = new Map([...parts].map(([parameter, each]) => [parameter, sideBySide(each)]));
    weights.set('emb', embeddingRows(load(embedding.tensor, embedding.shape).data, config, folder, vocabulary));
    const notes = isCrossed && !crosses ? ['has cross-attention, which is left out: the picture comes as a prefix'] : [];
    return { width, layers, heads, positions, weights, notes };
  } finally {
    file.close();
  }
}

function checkTensor(path: string, name: string, found: StoredWeight | undefined, shape: readonly number[]): void {
  if (!found) throw new FileError(path, `has no tensor "${name}" [${shape}], which a gpt2 of these sizes has`);
  if (found.shape.join() !== shape.join()) throw new FileError(path, `tensor "${name}" is [${found.shape}]; by the configuration it is [${shape}]`);
}
