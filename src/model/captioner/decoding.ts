/**
 * From features to captions: greedy decoding, sampling, beam search and diverse beam search. Words, states and attention weights
 * stay on the GPU. The loop for a batch's shape is cut into parts of some steps. Each part is captured once and replayed. After a
 * part the host looks whether all captions have ended; if so, it leaves out the others. Few captions are as long as they may be.
 */
import * as ops from '../../autograd/ops/index.ts';
import { noGrad } from '../../autograd/tape.ts';
import { END, PAD, START } from '../../data/words.ts';
import { GlimpseError } from '../../errors.ts';
import { CaptureCache, type Replay } from '../../gpu/capture.ts';
import type { Gpu } from '../../gpu/gpu.ts';
import { type LengthPenalty, lengthPenalty } from '../../kernels/beam.ts';
import { agreement } from '../../metrics/cider.ts';
import { streamOf } from '../../random.ts';
import type { Shape } from '../../tensor/shape.ts';
import { type DType, empty, readTensors, Scope, scope, type Tensor, type TypedArray, tensor, zeros } from '../../tensor/tensor.ts';

export interface GeneratedCaption {
  /** The words, without startseq and endseq. */
  tokens: number[];
  /** Sum of the chosen words' log-probabilities, endseq included. */
  logProb: number;
  logProbs: number[];
  /** The attention weights [P] of each word, if they were asked for. */
  alpha: Float32Array[];
  /** False if the caption reached the longest length without endseq. */
  ended: boolean;
}

export interface RankedCaption extends GeneratedCaption {
  /** The sum of log-probabilities, divided by the length penalty. */
  score: number;
  /** Likeness to the picture's other hypotheses, or to its neighbors' captions, where hypotheses were ordered by it. */
  agreement?: number;
}

/** Captions that were begun: their first states, and what a step does. */
export interface Begun {
  start: Tensor[];
  /** The states and the previous words [1, B] → logits [B, V], α [1, B, P], states. */
  step(states: Tensor[], previous: Tensor): { logits: Tensor; alpha: Tensor; states: Tensor[] };
}

/** What decoding needs from a model. */
export interface DecodedModel {
  /** Must be called before `words` words are decoded. Names the way `begin` works now; captures are told apart by it. */
  prepareDecoding(words: number): string;
  /**
   * Begins so many captions for each picture of the features [N, P, F]; those of a picture follow one another. What every step reads,
   * besides the states, must go through `keep`.
   */
  begin(features: Tensor, captions: number, keep: (x: Tensor) => Tensor): Begun;
}

/** Limits on captions, for every way of decoding. */
export interface WordLimits {
  /** Never choose pad, unknown and startseq. */
  suppress: boolean;
  /** Fewest words of a caption, endseq included (default 0). */
  minLength?: number;
  /** No run of this many words occurs twice; 0 (the default) allows all. */
  noRepeat?: number;
}

export interface SampleOptions extends WordLimits {
  /** Captions sampled for each picture (default 1). Those of a picture follow one another. */
  perPicture?: number;
  temperature: number;
  /** Only the k likeliest words are drawn; 0 for all. */
  topK: number;
  /** Only the likeliest words that together have this probability are drawn; 1 for all. */
  topP: number;
  seed: number;
}

export interface BeamOptions extends WordLimits {
  /** Number of hypotheses, all groups together. */
  width: number;
  penalty: LengthPenalty;
  /** Exponent of Wu's penalty. */
  alpha: number;
  /** Number of groups, which choose one after the other at each step (default 1). */
  groups?: number;
  /** λ: a word's penalty for each hypothesis of earlier groups that took it at the same step (Vijayakumar and others 2018). */
  diversity?: number;
  /** Orders the hypotheses by how well they agree with one another, not by their score. */
  consensus?: boolean;
}

const MAX_BEAM = 10;

/** Most decoding loops that stay captured. */
const MAX_LOOPS = 6;

/** Steps of the first part of a loop, and of each one after it. The host waits for the device after each part. */
interface Parts {
  first: number;
  others: number;
}

/** Captions of photographs have some 10 words. */
const PARTS: Parts = { first: 12, others: 4 };

/** The tensors of one group of hypotheses during its search. */
interface Group {
  start: Tensor[];
  previous: Tensor;
  sums: Tensor;
  lengths: Tensor;
  /** The history: words, the rows they continue, and sums, [T, rows] each; attention weights [T, rows, P]. */
  words: Tensor;
  parents: Tensor;
  history: Tensor;
  alphas: Tensor;
  /** The lengths after the last step that ran. */
  ended: Tensor;
}

/** Results of a group; the attention weights last, because not everyone wants them. */
const resultsOf = ({ words, parents, history, ended, alphas }: Group): Tensor[] => [words, parents, history, ended, alphas];

/** The results of one group, on the host. */
interface FoundGroup {
  words: Uint32Array;
  parents: Uint32Array;
  sums: Float32Array;
  lengths: Uint32Array;
  alphas: Float32Array | null;
}

/** The options of sampling that are baked into a capture; every replay reads the seed. */
type Sampled = Omit<SampleOptions, 'seed'>;

/** A way of decoding, with all options that its loop depends on. */
type Way = { maxLength: number } & ({ kind: 'greedy'; limits: WordLimits } | { kind: 'sample'; options: Sampled } | { kind: 'beam'; options: BeamOptions });

/** What the commands of a captured loop depend on; `form` names the way the model decodes now. */
interface Baked {
  shape: readonly number[];
  way: Way;
  form: string;
}

/** A decoding loop. */
interface Loop {
  /** Before the first step. */
  begin(): void;
  /** Step t. What the next step reads is kept out of `inner`. */
  step(t: number, inner: Scope): void;
  /** After the last step of a part: what the next part reads must last. */
  endPart(isLast: boolean): void;
  /** Time-major results; the steps that did not run are 0. */
  results(): Tensor[];
  /** Whether steps from `steps` on would add nothing, as the results tell. */
  hasEnded(steps: number): Promise<boolean>;
  dispose(): void;
}

/** A decoding loop for one shape of features: its input, and its parts, which are captured when they first run. */
interface CapturedLoop {
  input: Tensor;
  /** Returns the results and the number of steps that ran. */
  run(): Promise<{ results: Tensor[]; steps: number }>;
  dispose(): void;
}

/** Chooses a word for every row of logits at step t. */
type Choose = (logits: Tensor, t: number, limit: Limit | null) => { token: Tensor; logProb: Tensor };

export class Decoding {
  private sampleSeed = 0;
  private readonly loops = new CaptureCache<Baked, CapturedLoop>(MAX_LOOPS, (baked) => this.capture(baked));
  /** The end of the last loop that was asked for, if it has not come. The next one waits for it, because loops of a shape share their tensors. */
  private turn: Promise<void> | null = null;

  constructor(
    private readonly model: DecodedModel,
    private readonly parts: Parts = PARTS,
  ) {}

  /** A loop that chooses one word per caption and step. Its results are words, their log-probabilities and attention weights. */
  private wordLoop(features: Tensor, maxLength: number, perPicture: number, limits: WordLimits, choose: Choose): Loop {
    const [pictures, regions] = features.shape;
    const batch = pictures * perPicture;
    const { gpu } = features;
    const lasting = new Lasting(features.gpu);
    let begun: Begun;
    let results: Tensor[] = [];
    let parents: Tensor;
    let previous: Tensor;
    let start: Tensor[];
    const begin = () => {
      begun = this.model.begin(features, perPicture, (x) => lasting.keep(x));
      start = begun.start;
      results = [lasting.zeros([maxLength, batch], 'u32'), lasting.zeros([maxLength, batch]), lasting.zeros([maxLength, batch, regions])];
      const itself = tensor(
        Uint32Array.from({ length: batch }, (_, row) => row),
        [batch],
      );
      parents = lasting.zeros([maxLength, batch], 'u32');
      previous = tensor(new Uint32Array(batch).fill(START), [1, batch]);
      if (limits.noRepeat) for (let t = 0; t < maxLength; t++) gpu.copy(itself.slice, parents.slice, batch * 4, 0, t * batch * 4);
    };
    return {
      begin,
      step: (t, inner) => {
        const [words, scores, alphas] = results;
        const { logits, alpha, states } = begun.step(start, previous);
        const limit: Limit | null = isLimited(t, limits) ? (logProbs) => limited(logProbs, words, parents, t, limits) : null;
        const { token: word, logProb } = choose(logits, t, limit);
        gpu.copy(word.slice, words.slice, batch * 4, 0, t * batch * 4);
        gpu.copy(logProb.slice, scores.slice, batch * 4, 0, t * batch * 4);
        gpu.copy(alpha.slice, alphas.slice, batch * regions * 4, 0, t * batch * regions * 4);
        start = states.map((x) => inner.keep(x));
        previous = inner.keep(word.alias([1, batch]));
      },
      endPart: (isLast) => {
        if (isLast) return;
        previous = lasting.keep(previous);
        start = start.map((x) => lasting.keep(x));
      },
      results: () => results,
      hasEnded: async (steps) => {
        const words = (await results[0].data()) as Uint32Array;
        const ended = new Uint8Array(batch);
        for (let at = 0; at < steps * batch; at++) if (words[at] === END) ended[at % batch] = 1;
        return ended.every((each) => each === 1);
      },
      dispose: () => lasting.dispose(),
    };
  }

  /** Results of a decoding loop, on the host. The first batch of a shape captures it; later batches replay it. */
  private replayed(
    features: Tensor,
    way: Way,
    { words, wanted, seed }: { words: number; wanted: (result: number) => boolean; seed?: number },
  ): Promise<{ arrays: TypedArray[]; steps: number }> {
    const own = Scope.release(features.alias(features.shape)); // the caller's scope may end before the loop does
    const work = async () => {
      if (seed !== undefined) this.sampleSeed = seed; // every replay reads it
      const baked = { shape: own.shape, way, form: this.model.prepareDecoding(words * own.shape[0]) };
      const { results, steps } = await this.loops.use(baked, ({ input, run }) => {
        input.gpu.copy(own.slice, input.slice, own.size * 4);
        return run();
      });
      return { arrays: await readTensors(results.filter((_, i) => wanted(i))), steps };
    };
    const result = (this.turn ? this.turn.then(work) : work()).finally(() => own.dispose());
    const turn = result.then(
      () => {},
      () => {},
    );
    this.turn = turn;
    turn.then(() => {
      if (this.turn === turn) this.turn = null;
    });
    return result;
  }

  private capture({ shape, way }: Baked): CapturedLoop {
    const input = Scope.release(empty(shape, 'f32', 'features to caption'));
    const loop = this.loop(input, way);
    const { maxLength } = way;
    const { first, others } = this.parts;
    const runPart = (from: number, to: number) => {
      using _part = scope();
      if (from === 0) loop.begin();
      for (let t = from; t < to; t++) {
        using inner = scope();
        loop.step(t, inner);
      }
      loop.endPart(to === maxLength);
    };
    const replays: Replay[] = [];
    return {
      input,
      run: async () => {
        let steps = 0;
        for (let part = 0; steps < maxLength; part++) {
          const from = steps;
          steps = Math.min(maxLength, part === 0 ? first : from + others);
          if (replays[part]) replays[part].run();
          else replays.push(noGrad(() => input.gpu.capture(() => runPart(from, steps)).replay));
          if (steps < maxLength && (await loop.hasEnded(steps))) break;
        }
        return { results: loop.results(), steps };
      },
      dispose: () => {
        loop.dispose();
        input.dispose();
        for (const replay of replays) replay.dispose();
      },
    };
  }

  private loop(features: Tensor, way: Way): Loop {
    if (way.kind === 'beam') return this.beamLoop(features, way.maxLength, way.options);
    if (way.kind === 'greedy') return this.wordLoop(features, way.maxLength, 1, way.limits, likeliest(way.limits));
    return this.wordLoop(features, way.maxLength, way.options.perPicture ?? 1, way.options, this.sampled(way.options));
  }

  /** The likeliest word at each step. features [B, P, F]. Throws a GlimpseError if a picture's log-probabilities are NaN, as all here do. */
  async greedy(features: Tensor, maxLength: number, limits: WordLimits, wantAlpha = false): Promise<GeneratedCaption[]> {
    const { arrays } = await this.replayed(features, { kind: 'greedy', maxLength, limits }, { words: maxLength, wanted: (i) => wantAlpha || i < 2 });
    return captionsOf(arrays, features.shape, maxLength);
  }

  /** Captions by sampling. The same seed gives the same captions. features [B, P, F]. */
  async sample(features: Tensor, maxLength: number, o: SampleOptions, wantAlpha = false): Promise<GeneratedCaption[]> {
    const { seed, ...options } = o;
    const { perPicture = 1 } = o;
    const read = { words: maxLength * perPicture, wanted: (i: number) => wantAlpha || i < 2, seed };
    const { arrays } = await this.replayed(features, { kind: 'sample', maxLength, options }, read);
    return captionsOf(arrays, features.shape, maxLength, perPicture);
  }

  private sampled({ temperature, topK, topP, suppress }: Sampled): Choose {
    return (logits, t, limit) => {
      const logProbs = ops.softmax(logits, true);
      return ops.sample(limit ? limit(logProbs) : logProbs, {
        ...{ skipBelow: suppress ? END : PAD, topK, topP, temperature, seed: t },
        step: () => this.sampleSeed,
        stream: streamOf('sampled words'),
      });
    };
  }

  /** The loop of a beam search. Its results are, of each group, words, parent rows and sums [T, rows], α [T, rows, P], and the lengths. */
  private beamLoop(features: Tensor, maxLength: number, o: BeamOptions): Loop {
    const [batch, regions] = features.shape;
    const { groups: count = 1, diversity = 0 } = o;
    const width = o.width / count;
    const rows = batch * width;
    const lasting = new Lasting(features.gpu);
    let begun: Begun;
    let groups: Group[] = [];
    const begin = () => {
      begun = this.model.begin(features, width, (x) => lasting.keep(x));
      const { start } = begun;
      groups = Array.from({ length: count }, () => ({
        start,
        previous: tensor(new Uint32Array(rows).fill(START), [1, rows]),
        // At first, all hypotheses of a picture are the same, so only the first counts.
        sums: tensor(
          Float32Array.from({ length: rows }, (_, r) => (r % width === 0 ? 0 : -1e30)),
          [batch, width],
        ),
        lengths: zeros([batch, width], 'u32'),
        words: lasting.zeros([maxLength, rows], 'u32'),
        parents: lasting.zeros([maxLength, rows], 'u32'),
        history: lasting.zeros([maxLength, rows]),
        alphas: lasting.zeros([maxLength, rows, regions]),
        ended: lasting.zeros([batch, width], 'u32'),
      }));
    };
    return {
      begin,
      step: (t, inner) => {
        const taken = zeros([count, batch, width], 'u32');
        groups.forEach((group, g) => {
          this.beamStep(begun.step, group, t, o, width, { taken, groups: g, diversity });
          features.gpu.copy(group.words.slice, taken.slice, rows * 4, t * rows * 4, g * rows * 4);
          group.start = group.start.map((x) => inner.keep(x));
          for (const name of ['previous', 'sums', 'lengths'] as const) group[name] = inner.keep(group[name]);
        });
      },
      endPart: (isLast) => {
        for (const group of groups) {
          features.gpu.copy(group.lengths.slice, group.ended.slice, rows * 4);
          if (isLast) continue;
          group.start = group.start.map((x) => lasting.keep(x));
          for (const name of ['previous', 'sums', 'lengths'] as const) group[name] = lasting.keep(group[name]);
        }
      },
      results: () => groups.flatMap(resultsOf),
      hasEnded: async () => (await readTensors(groups.map(({ ended }) => ended))).every((lengths) => lengths.every((length) => length > 0)),
      dispose: () => lasting.dispose(),
    };
  }

  /** One step of one group: chooses the hypotheses to keep and adds them to the history. */
  private beamStep(
    step: Begun['step'],
    group: Group,
    t: number,
    o: BeamOptions,
    width: number,
    others: { taken: Tensor; groups: number; diversity: number },
  ): void {
    const rows = group.previous.size;
    const { gpu } = group.previous;
    const { logits, alpha, states } = step(group.start, group.previous);
    const allowed = limited(ops.softmax(logits, true), group.words, group.parents, t, { noRepeat: o.noRepeat, suppress: o.suppress }, others);
    const continuations = width + 1;
    const best = ops.topK(allowed, continuations, o.suppress ? END : PAD);
    const shape = [rows / width, width, continuations];
    const [sums, parents, words, lengths] = ops.beamSelect(ops.reshape(best.values, shape), best.indices.alias(shape), group.sums, group.lengths, {
      ...{ step: t + 1, end: END, minimum: o.minLength ?? 0, penalty: o.penalty, alpha: o.alpha },
    });
    const regions = alpha.shape[2];
    gpu.copy(words.slice, group.words.slice, rows * 4, 0, t * rows * 4);
    gpu.copy(parents.slice, group.parents.slice, rows * 4, 0, t * rows * 4);
    gpu.copy(sums.slice, group.history.slice, rows * 4, 0, t * rows * 4);
    gpu.copy(alpha.slice, group.alphas.slice, rows * regions * 4, 0, t * rows * regions * 4);
    // Every kept hypothesis gets the states of the row that it continues.
    group.start = states.map((x) => ops.embedding(x, parents.alias([rows])));
    group.previous = words.alias([1, rows]);
    group.sums = sums;
    group.lengths = lengths;
  }

  /**
   * Beam search, or diverse beam search with `groups`. features [B, P, F]. Returns each picture's hypotheses, best first: that of the
   * best normalized score, or with `consensus` the one that the others agree with most. The latter is minimum Bayes risk decoding (Kumar
   * and Byrne 2004): of all captions that the model may mean, the likeliest is rarely the most like the rest. A hypothesis that reached
   * `maxLength` without endseq is scored as it is. Throws a GlimpseError for bad options.
   */
  async beam(features: Tensor, maxLength: number, { consensus, ...o }: BeamOptions, wantAlpha = false): Promise<RankedCaption[][]> {
    const found = await this.search(features, maxLength, o, wantAlpha);
    return consensus ? found.map(byAgreement) : found;
  }

  /** The hypotheses of a beam search, best score first. */
  private async search(features: Tensor, maxLength: number, o: BeamOptions, wantAlpha: boolean): Promise<RankedCaption[][]> {
    const { groups = 1, minLength = 0, diversity = 0 } = o;
    if (!(Number.isInteger(o.width) && o.width >= 1 && o.width <= MAX_BEAM)) throw new GlimpseError(`the beam is 1 to ${MAX_BEAM} wide, got ${o.width}`);
    if (!(groups >= 1 && o.width % groups === 0)) throw new GlimpseError(`${o.width} hypotheses do not make ${groups} groups of the same size`);
    if (minLength > maxLength) throw new GlimpseError(`a caption of at least ${minLength} words does not fit in ${maxLength} words`);
    const [batch, regions] = features.shape;
    const width = o.width / groups;
    const read = { words: maxLength * o.width, wanted: (i: number) => wantAlpha || i % 5 < 4 };
    const { arrays, steps } = await this.replayed(features, { kind: 'beam', maxLength, options: o }, read);
    const per = arrays.length / groups;
    const found = Array.from({ length: groups }, (_, g): FoundGroup => {
      const [words, parents, sums, lengths, alphas] = arrays.slice(g * per, (g + 1) * per);
      return { words, parents, sums, lengths, alphas: alphas ?? null } as FoundGroup;
    });
    return Array.from({ length: batch }, (_, b) =>
      found
        .flatMap((group, g) =>
          Array.from({ length: width }, (_unused, w) => backtrack(group, found.slice(0, g), { b, w, width, batch, regions, steps, diversity }, o)),
        )
        .sort((x, y) => y.score - x.score),
    );
  }

  /** Captions of each picture, best first: the hypotheses of beam search, or the greedy caption if the beam is 1 wide. */
  async ranked(features: Tensor, maxLength: number, o: BeamOptions, wantAlpha = false): Promise<GeneratedCaption[][]> {
    if (o.width > 1) return this.beam(features, maxLength, o, wantAlpha);
    const greedy = await this.greedy(features, maxLength, { suppress: o.suppress, minLength: o.minLength, noRepeat: o.noRepeat }, wantAlpha);
    return greedy.map((one) => [one]);
  }

  /** Frees what the captured loops hold. Later calls capture them anew. */
  dispose(): void {
    this.loops.dispose();
  }
}

/**
 * Tensors that a part of a loop hands on to the next part, or to the host. They live as long as the loop. Other captures may run
 * between two parts, and all captures share the buffers of what they compute. So these tensors are copies in buffers of their own.
 */
class Lasting {
  private readonly tensors: Tensor[] = [];

  constructor(private readonly gpu: Gpu) {}

  private make(shape: Shape, type: DType): Tensor {
    const made = this.gpu.pool.lasting(() => empty(shape, type, 'kept between parts of a decoding loop', this.gpu));
    this.tensors.push(Scope.release(made));
    return made;
  }

  keep(x: Tensor): Tensor {
    const copy = this.make(x.shape, x.dtype);
    this.gpu.copy(x.slice, copy.slice, x.size * 4);
    return copy;
  }

  zeros(shape: Shape, type: DType = 'f32'): Tensor {
    const made = this.make(shape, type);
    this.gpu.clear(made.slice);
    return made;
  }

  dispose(): void {
    for (const tensor of this.tensors.splice(0)) tensor.dispose();
  }
}

/** Captions of the results of a loop over words, [T, B] each, α [T, B, P] if it was read. */
function captionsOf(
  [ids, logProbs, alpha]: readonly TypedArray[],
  [pictures, regions]: readonly number[],
  maxLength: number,
  perPicture = 1,
): GeneratedCaption[] {
  const batch = pictures * perPicture;
  return Array.from({ length: batch }, (_, b) => {
    const caption: GeneratedCaption = { tokens: [], logProb: 0, logProbs: [], alpha: [], ended: false };
    for (let t = 0; t < maxLength && !caption.ended; t++) {
      const at = t * batch + b;
      caption.logProb += logProbs[at];
      caption.logProbs.push(logProbs[at]);
      if (alpha) caption.alpha.push((alpha as Float32Array).slice(at * regions, (at + 1) * regions));
      if (ids[at] === END) caption.ended = true;
      else caption.tokens.push(ids[at]);
    }
    refuseNaN(caption, Math.floor(b / perPicture), pictures);
    return caption;
  });
}

/** The hypotheses of a picture, that first which agrees most with all of them. */
function byAgreement(hypotheses: readonly RankedCaption[]): RankedCaption[] {
  const agreements = agreement(hypotheses.map(({ tokens }) => tokens.map(String)));
  return hypotheses.map((each, i) => ({ ...each, agreement: agreements[i] })).sort((x, y) => y.agreement - x.agreement);
}

/** The likeliest word, among those that the limits allow. */
function likeliest({ suppress }: WordLimits): Choose {
  const skipBelow = suppress ? END : PAD;
  return (logits, _t, limit) => {
    if (!limit) return ops.argmaxToken(logits, skipBelow);
    const { values, indices } = ops.topK(limit(ops.softmax(logits, true)), 1, skipBelow);
    return { token: indices, logProb: values };
  };
}

/** Makes forbidden words less likely than all others. */
type Limit = (logProbs: Tensor) => Tensor;

const isRepeating = (t: number, { noRepeat = 0 }: WordLimits) => noRepeat > 0 && t >= noRepeat;
const isTooEarly = (t: number, { minLength = 0 }: WordLimits) => t + 1 < minLength;
/** Whether words other than the special ones are forbidden at step t. */
const isLimited = (t: number, limits: WordLimits) => isRepeating(t, limits) || isTooEarly(t, limits);

/** Log-probabilities with the limits applied: forbidden words are below all others, and words of earlier groups are penalized. */
function limited(
  logProbs: Tensor,
  words: Tensor,
  parents: Tensor,
  t: number,
  limits: WordLimits,
  others: { taken: Tensor; groups: number; diversity: number } | null = null,
): Tensor {
  const penalized = others && others.groups > 0 && others.diversity > 0;
  if (!penalized && !isLimited(t, limits)) return logProbs;
  const width = others?.taken.shape[2] ?? 1;
  const taken = others?.taken ?? zeros([1, logProbs.shape[0], 1], 'u32');
  const attrs = {
    step: t,
    noRepeat: isRepeating(t, limits) ? (limits.noRepeat ?? 0) : 0,
    end: END,
    blockEnd: isTooEarly(t, limits),
    groups: penalized ? others.groups : 0,
    width,
  };
  return ops.limitTokens(logProbs, words, parents, taken, { ...attrs, diversity: others?.diversity ?? 0 });
}

/** A NaN counts as the largest, so it is what decoding takes. A caption of it would only look like one. */
function refuseNaN({ logProbs }: GeneratedCaption, picture: number, pictures: number): void {
  const word = logProbs.findIndex(Number.isNaN);
  if (word >= 0)
    throw new GlimpseError(
      `picture ${picture + 1} of ${pictures}: the log-probability of word ${word + 1} is NaN; its features or the weights of the model are no numbers`,
    );
}

interface Place {
  /** Picture and hypothesis within the group. */
  b: number;
  w: number;
  width: number;
  batch: number;
  regions: number;
  /** Steps that ran. */
  steps: number;
  diversity: number;
}

/** Follows one hypothesis of a group back to its start, and makes its caption. */
function backtrack(group: FoundGroup, earlier: readonly FoundGroup[], place: Place, o: BeamOptions): RankedCaption {
  const { b, w, width, batch, regions, steps: ran, diversity } = place;
  const rows = batch * width;
  const last = b * width + w;
  const steps = group.lengths[last] || ran;
  const path: { at: number; from: number }[] = [];
  for (let t = ran - 1, row = last; t >= 0; t--) {
    const at = t * rows + row;
    path.unshift({ at, from: t * rows + group.parents[at] });
    row = group.parents[at];
  }
  const caption: RankedCaption = { tokens: [], logProb: 0, logProbs: [], alpha: [], ended: group.lengths[last] > 0, score: 0 };
  path.slice(0, steps).forEach(({ at, from }, t) => {
    const word = group.words[at];
    const first = t * rows + b * width;
    const taken = earlier.reduce((sum, { words }) => sum + words.subarray(first, first + width).filter((id) => id === word && id !== PAD).length, 0);
    // The sums of the search include the penalty for diversity. The log-probability of a caption does not.
    caption.logProbs.push(group.sums[at] - (t > 0 ? group.sums[path[t - 1].at] : 0) + diversity * taken);
    if (group.alphas) caption.alpha.push(group.alphas.slice(from * regions, (from + 1) * regions));
    if (word !== END) caption.tokens.push(word);
  });
  refuseNaN(caption, b, batch);
  caption.logProb = caption.logProbs.reduce((sum, value) => sum + value, 0);
  caption.score = caption.logProb / lengthPenalty(steps, o.penalty, o.alpha);
  return caption;
}
