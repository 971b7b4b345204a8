/**
 * The demo: a convolutional encoder and the attention decoder learn together to describe scenes, then describe scenes they never
 * saw. It uses the ops of the real captioner. Its widths are small, so that a software driver needs only minutes.
 */
import { backward, noGrad } from '../../autograd/tape.ts';
import { SPECIAL_WORDS, Vocabulary } from '../../data/words.ts';
import { Optimizer } from '../../nn/optimizer.ts';
import type { NamedArray } from '../../nn/parameters.ts';
import { Random } from '../../random.ts';
import { readTensors, scope, type Tensor, tensor } from '../../tensor/tensor.ts';
import { Captioner, PRESETS } from '../captioner/captioner.ts';
import type { GeneratedCaption } from '../captioner/decoding.ts';
import { ConvEncoder, PATCH, PATCH_CHANNELS } from './conv_encoder.ts';
import { COLORS, makeScene, pointsAt, SCENE_GRID, SCENE_SIZE, type Scene, SHAPES, unseenScene, validationScene, weightOnObject } from './scenes.ts';

/** Scenes of a training step. */
export const BATCH = 32;
const RATE = 3e-3;
const WIDTHS = { project: 64, attention: 64, hidden: 96, embedding: 32 };
const MAX_WORDS = 12;
/** What the metadata of a file of its weights says it is. */
export const DEMO_FORMAT = 'glimpse demo';

export interface DemoOptions {
  scenes: number;
  epochs: number;
  seed: number;
  /** Training waits for what it returns, so that a page can pause it. */
  onStep(done: number, total: number, loss: number): void | Promise<void>;
  /** `described` are the scenes of validation. */
  onEpoch(epoch: number, loss: number, exact: number, seconds: number, described: readonly DescribedScene[]): void | Promise<void>;
}

export interface DescribedScene {
  scene: Scene;
  words: string[];
  wordProbs: number[];
  alpha: Float32Array[];
  exact: boolean;
}

export interface DemoReport {
  trainScenes: number;
  testScenes: number;
  epochs: number;
  /** Share of unseen scenes whose caption is right in every word. */
  exactMatch: number;
  /** Share of the words for size, color and shape, in right captions, whose map peaks on the object they name. */
  pointing: number;
  /** The same share for a random region. */
  pointingByChance: number;
  /** Mean share of a map's weight on the object that the word names. */
  weightOnThing: number;
  parameters: number;
  seconds: number;
  lossCurve: number[];
}

export function sceneVocabulary(): Vocabulary {
  return new Vocabulary([...SPECIAL_WORDS, 'a', 'small', 'large', ...Object.keys(COLORS), ...SHAPES, 'above', 'left', 'of']);
}

/**
 * Scenes as patches [N, 16, 16, 52]: 4 × 4 pixels from −1 to 1, and the patch's position (x, y, −x, −y). Relations between objects
 * depend on positions, which a convolution does not know (Liu et al. 2018, "CoordConv").
 */
function pictures(scenes: readonly Scene[]): Tensor {
  const side = SCENE_SIZE / PATCH;
  const values = new Float32Array(scenes.length * side * side * PATCH_CHANNELS);
  let at = 0;
  for (const { pixels } of scenes) {
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        for (let row = 0; row < PATCH; row++) {
          const from = 3 * ((y * PATCH + row) * SCENE_SIZE + x * PATCH);
          for (let k = 0; k < 3 * PATCH; k++) values[at++] = pixels[from + k] / 127.5 - 1;
        }
        const [right, down] = [(2 * x + 1) / side - 1, (2 * y + 1) / side - 1];
        for (const coordinate of [right, down, -right, -down]) values[at++] = coordinate;
      }
    }
  }
  return tensor(values, [scenes.length, side, side, PATCH_CHANNELS]);
}

export class DemoModel {
  readonly vocabulary = sceneVocabulary();
  readonly captioner: Captioner;
  readonly encoder: ConvEncoder;
  readonly optimizer: Optimizer;

  constructor(seed: number) {
    const sizes = { features: 48, regions: SCENE_GRID ** 2, ...WIDTHS, vocabulary: this.vocabulary.size };
    this.captioner = Captioner.create(sizes, PRESETS.basic, seed);
    this.encoder = new ConvEncoder(this.captioner.parameters, seed);
    this.optimizer = new Optimizer(this.captioner.parameters, { kind: 'adam', rate: RATE, maxNorm: 5 });
  }

  /** Does one Adam update on a batch. Returns the loss per word in nats. */
  async step(scenes: readonly Scene[]): Promise<number> {
    using _step = scope();
    const rows = scenes.map(({ caption }) => this.vocabulary.encode(caption, MAX_WORDS + 2));
    const steps = Math.max(...rows.map((row) => row.length)) - 1;
    const at = (offset: number) =>
      Uint32Array.from({ length: steps * rows.length }, (_, i) => rows[i % rows.length][Math.floor(i / rows.length) + offset] ?? 0);
    const targets = at(1);
    const words = targets.filter((id) => id !== 0).length;
    const shape = [steps, rows.length];
    this.optimizer.zeroGrad();
    const features = this.encoder.forward(pictures(scenes), true);
    const { loss } = this.captioner.loss(
      features,
      tensor(at(0), shape),
      tensor(targets, shape),
      tensor(
        Float32Array.from(targets, (id) => (id === 0 ? 0 : 1 / words)),
        shape,
      ),
    );
    backward(loss);
    this.optimizer.step();
    return (await readTensors([loss]))[0][0];
  }

  async describe(scenes: readonly Scene[]): Promise<DescribedScene[]> {
    const described: DescribedScene[] = [];
    for (let first = 0; first < scenes.length; first += 2 * BATCH) {
      using _batch = scope();
      const part = scenes.slice(first, first + 2 * BATCH);
      const captions: GeneratedCaption[] = await noGrad(() => this.captioner.decoding.greedy(this.features(part), MAX_WORDS, { suppress: true }, true));
      captions.forEach((caption, i) => {
        const words = caption.tokens.map((id) => this.vocabulary.words[id]);
        described.push({
          scene: part[i],
          words,
          wordProbs: caption.logProbs.map(Math.exp),
          alpha: caption.alpha,
          exact: words.join(' ') === part[i].caption.join(' '),
        });
      });
    }
    return described;
  }

  /** Everything that captioning needs, running statistics included. */
  async weights(): Promise<Map<string, NamedArray>> {
    return new Map([...(await this.captioner.parameters.read()), ...(await this.encoder.readStatistics())]);
  }

  /** Overwrites all weights. Throws a GlimpseError that names the first one that is missing or of another shape. */
  load(weights: ReadonlyMap<string, NamedArray>): void {
    this.captioner.parameters.write(weights);
    this.encoder.writeStatistics(weights);
  }

  /** Scenes → what the captioner sees of them, [N, regions, width]. */
  features(scenes: readonly Scene[]): Tensor {
    return noGrad(() => this.encoder.forward(pictures(scenes), false));
  }

  dispose(): void {
    this.optimizer.dispose();
    this.encoder.dispose();
    this.captioner.dispose();
  }
}

const share = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);

/** Trains a new model, and has it describe scenes that it never saw. */
export async function runDemo(model: DemoModel, o: DemoOptions): Promise<{ report: DemoReport; described: DescribedScene[] }> {
  const started = performance.now();
  const scenes = Array.from({ length: o.scenes }, (_, i) => makeScene(o.seed, i));
  const validation = Array.from({ length: 128 }, (_, i) => validationScene(o.seed, i));
  const test = Array.from({ length: 256 }, (_, i) => unseenScene(o.seed, i));
  const perEpoch = Math.floor(scenes.length / BATCH);
  const total = perEpoch * o.epochs;
  const lossCurve: number[] = [];
  let epochs = 0;
  let done = 0;
  while (epochs < o.epochs) {
    const order = new Random(o.seed, 'order', epochs).permutation(scenes.length);
    const losses: number[] = [];
    for (let b = 0; b < perEpoch; b++) {
      // The rate falls to a twentieth by the last step, so that the last epochs settle.
      model.optimizer.rate = RATE * (0.05 + 0.95 * 0.5 * (1 + Math.cos((Math.PI * done) / total)));
      losses.push(await model.step(order.slice(b * BATCH, (b + 1) * BATCH).map((i) => scenes[i])));
      lossCurve.push(losses[losses.length - 1]);
      await o.onStep(++done, total, losses[losses.length - 1]);
    }
    epochs++;
    const validated = await model.describe(validation);
    const exact = share(validated.map((d) => Number(d.exact)));
    await o.onEpoch(epochs, share(losses), exact, (performance.now() - started) / 1000, validated);
    if (exact >= 0.985) break; // learned; more epochs would waste the user's time
  }
  const described = await model.describe(test);
  // Maps of the words for size, color and shape, in right captions.
  const named = described
    .filter((d) => d.exact)
    .flatMap((d) =>
      d.words.flatMap((word, t) => (word !== 'a' && d.scene.names[t] >= 0 ? [{ alpha: d.alpha[t], object: d.scene.objects[d.scene.names[t]] }] : [])),
    );
  const even = new Float32Array(SCENE_GRID ** 2).fill(1 / SCENE_GRID ** 2);
  const report: DemoReport = {
    trainScenes: scenes.length,
    testScenes: test.length,
    epochs,
    exactMatch: share(described.map((d) => Number(d.exact))),
    pointing: share(named.map(({ alpha, object }) => Number(pointsAt(alpha, object)))),
    pointingByChance: share(named.map(({ object }) => weightOnObject(even, object))),
    weightOnThing: share(named.map(({ alpha, object }) => weightOnObject(alpha, object))),
    parameters: model.captioner.parameters.count,
    seconds: (performance.now() - started) / 1000,
    lossCurve,
  };
  return { report, described };
}
