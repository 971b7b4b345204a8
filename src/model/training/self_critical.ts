/**
 * Self-critical sequence training (Rennie and others 2017): captions sampled from the model are rewarded with CIDEr-D. The
 * log-probability of captions above a baseline is raised, that of captions below it is lowered.
 *
 *   L = −(1 − mix) Σ m (r − b) log p / Σ m  +  mix · (cross-entropy of the references)
 *
 * r is the reward of the sample. The end token counts in the mask m and in the reward. b is the reward of the greedy caption
 * (`greedy`), or the mean of the picture's other samples (`others`, Luo 2020). Sampling is not recorded on the tape. The loss is
 * the weighted cross-entropy of the samples under teacher forcing. Document frequencies are those of the training split.
 */
import type { CaptionedWords } from '../../data/captions.ts';
import type { StoredNumbers } from '../../data/half.ts';
import { END, START, type Vocabulary } from '../../data/words.ts';
import { CiderD } from '../../metrics/cider.ts';
import { endsInFunctionWord } from '../../metrics/function_words.ts';
import { featureTensor } from '../../nn/stored_features.ts';
import { type Captioner, packsCaptions } from '../captioner/captioner.ts';
import type { GeneratedCaption } from '../captioner/decoding.ts';
import type { SelfCriticalConfig } from './checkpoint.ts';
import { layOut } from './packing.ts';
import type { StepInputs } from './step.ts';

const END_WORD = 'endseq';

/** Statistics of a batch of samples. */
export interface Rollout {
  reward: number;
  baseline: number;
  /** Mean −log p of a sampled word: an estimate of the entropy of the model's choices, in nats. */
  entropy: number;
  meanLength: number;
  endInFunctionWord: number;
  distinctWords: number;
  /** Number of words sampled, endseq included. */
  tokens: number;
}

/** Pictures for each reference of a large batch. A few references keep the language sound, and each costs as much as a sample. */
const PICTURES_PER_REFERENCE = 4;

export class SelfCritical {
  private readonly cider: CiderD;
  private readonly references = new Map<string, CaptionedWords>();

  constructor(
    private readonly model: Captioner,
    private readonly vocabulary: Vocabulary,
    training: readonly CaptionedWords[],
    private readonly config: SelfCriticalConfig,
    private readonly seed: number,
  ) {
    for (const image of training) this.references.set(image.file, image);
    this.cider = new CiderD(training.map((image) => this.rewardWords(image)));
  }

  private rewardWords({ captions }: CaptionedWords): string[][] {
    return captions.map((caption) => [...this.vocabulary.referenceWords(caption), END_WORD]);
  }

  private said({ tokens, ended }: GeneratedCaption): string[] {
    return [...this.vocabulary.scoredWords(tokens), ...(ended ? [END_WORD] : [])];
  }

  /** Samples captions for the pictures, rewards them, and lays out the inputs of the training step. `draw` selects the random numbers. */
  async rollout(files: readonly string[], features: StoredNumbers, draw: number): Promise<{ inputs: StepInputs; rollout: Rollout }> {
    const { samples, maxLength, temperature, baseline, mix, normalize } = this.config;
    const { regions, features: width } = this.model.sizes;
    const input = featureTensor(features, [files.length, regions, width]);
    const options = { perPicture: samples, temperature, topK: 0, topP: 1, suppress: false, seed: (this.seed + draw) >>> 0 };
    const drawn = await this.model.decoding.sample(input, maxLength, options);
    const greedy = baseline === 'greedy' ? await this.model.decoding.greedy(input, maxLength, { suppress: true }) : null;
    input.dispose();
    const images = files.map((file) => this.references.get(file) as CaptionedWords);
    const rewards: number[] = [];
    const baselines: number[] = [];
    images.forEach((image, i) => {
      const own = drawn.slice(i * samples, (i + 1) * samples);
      const candidates = [...own, ...(greedy ? [greedy[i]] : [])].map((caption) => this.said(caption));
      const scores = this.cider.scores(candidates, this.rewardWords(image));
      const sum = scores.slice(0, samples).reduce((total, score) => total + score, 0);
      for (let k = 0; k < samples; k++) {
        rewards.push(scores[k]);
        baselines.push(greedy ? scores[samples] : (sum - scores[k]) / Math.max(1, samples - 1));
      }
    });
    const advantages = rewards.map((reward, r) => reward - baselines[r]);
    if (normalize) {
      const deviation = Math.sqrt(advantages.reduce((sum, value) => sum + value * value, 0) / advantages.length);
      for (let r = 0; r < advantages.length; r++) advantages[r] /= Math.max(1e-6, deviation);
    }
    const inputs = this.layOut(images, features, drawn, advantages, mix, draw);
    const tokens = drawn.reduce((sum, { logProbs }) => sum + logProbs.length, 0);
    const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const sentences = drawn.map(({ tokens: ids }) => this.vocabulary.scoredWords(ids));
    const rollout = {
      reward: mean(rewards),
      baseline: mean(baselines),
      entropy: -drawn.reduce((sum, { logProb }) => sum + logProb, 0) / tokens,
      meanLength: mean(sentences.map((words) => words.length)),
      endInFunctionWord: mean(sentences.map((words) => (endsInFunctionWord(words) ? 1 : 0))),
      distinctWords: new Set(sentences.flat()).size,
      tokens,
    };
    return { inputs, rollout };
  }

  /** Captions of each picture: its samples. With `mix`, some pictures have one of their references besides; which ones changes from draw to draw. */
  private layOut(
    images: readonly CaptionedWords[],
    features: StoredNumbers,
    drawn: readonly GeneratedCaption[],
    advantages: readonly number[],
    mix: number,
    draw: number,
  ): StepInputs {
    const { samples } = this.config;
    const ofSamples = (1 - mix) / drawn.reduce((sum, { logProbs }) => sum + logProbs.length, 0);
    const captions: { words: number[]; picture: number; weight: number }[] = [];
    const packs = packsCaptions(this.model.options); // else each picture must have as many captions
    const every = packs ? Math.max(1, Math.min(PICTURES_PER_REFERENCE, Math.floor(images.length / PICTURES_PER_REFERENCE))) : 1;
    const references = images.map(({ ids }, picture) => (mix > 0 && (picture + draw) % every === 0 ? ids[draw % ids.length].slice(1) : []));
    const ofReferences = mix / Math.max(1, references.flat().length);
    images.forEach((_, picture) => {
      for (let k = picture * samples; k < (picture + 1) * samples; k++)
        captions.push({ words: [START, ...drawn[k].tokens, ...(drawn[k].ended ? [END] : [])], picture, weight: ofSamples * advantages[k] });
      if (references[picture].length > 0) captions.push({ words: [START, ...references[picture]], picture, weight: ofReferences });
    });
    const { words, order } = layOut(captions, packs);
    const weights = Float32Array.from(
      words.active.flatMap((count, t) => Array.from({ length: count }, (_, r) => (t + 1 < captions[order[r]].words.length ? captions[order[r]].weight : 0))),
    );
    return { features, pictures: images.length, ...words, weights };
  }
}
