/**
 * Captions for whoever asks: pictures that come at about the same time are captioned together. Decoding a picture's file goes on
 * while the device works on others.
 */
import type { Vocabulary } from '../data/words.ts';
import { GlimpseError } from '../errors.ts';
import type { Captioner } from '../model/captioner/captioner.ts';
import type { NeighborOptions, Neighbors } from '../model/captioner/neighbors.ts';
import type { ImageEncoder } from '../model/encoder/encoder.ts';
import { scope, tensor } from '../tensor/tensor.ts';
import { rankedCaptions } from './decoding.ts';

export interface CaptionAnswer {
  caption: string;
  words: { word: string; probability: number }[];
  logProb: number;
  /** The other hypotheses of the beam, best first. */
  others: string[];
  /** Pictures that were captioned with this one. */
  batch: number;
}

/** Too many pictures wait already. */
export class Busy extends GlimpseError {
  override name = 'Busy';
}

interface Asked {
  pixels: Float32Array;
  resolve(answer: CaptionAnswer): void;
  reject(error: unknown): void;
  signal: AbortSignal;
}

export class CaptionService {
  private readonly waiting: Asked[] = [];
  private working: Promise<void> | null = null;
  /** Pictures whose files are being decoded. */
  private decoding = 0;
  /** Most pictures that were captioned together so far. */
  largestBatch = 0;

  constructor(
    private readonly encoder: ImageEncoder,
    private readonly model: Captioner,
    private readonly vocabulary: Vocabulary,
    private readonly o: { asked: NeighborOptions; neighbors: Neighbors | null; batch: number; queue: number },
  ) {}

  /** Pictures that wait or are being decoded. */
  get load(): number {
    return this.waiting.length + this.decoding;
  }

  /** Captions the bytes of a picture. Throws a FileError if they are none, Busy if too many wait, the signal's reason once it is aborted. */
  async caption(name: string, bytes: Uint8Array, signal: AbortSignal): Promise<CaptionAnswer> {
    if (this.load >= this.o.queue) throw new Busy(`${this.o.queue} pictures wait already`);
    this.decoding++;
    let pixels: Float32Array;
    try {
      pixels = await this.encoder.loadBytes(name, bytes);
    } finally {
      this.decoding--;
    }
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      this.waiting.push({ pixels, resolve, reject, signal });
      this.working ??= this.work();
    });
  }

  private async work(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve)); // pictures that were decoded in the same moment come along
    for (;;) {
      const batch = this.waiting.splice(0, this.o.batch).filter(({ signal }) => !signal.aborted);
      if (batch.length > 0) {
        try {
          const answers = await this.together(batch.map(({ pixels }) => pixels));
          for (const [i, { resolve }] of batch.entries()) resolve(answers[i]);
        } catch (error) {
          for (const { reject } of batch) reject(error);
        }
      }
      if (this.waiting.length === 0) break;
    }
    this.working = null;
  }

  private async together(pictures: readonly Float32Array[]): Promise<CaptionAnswer[]> {
    using _batch = scope();
    this.largestBatch = Math.max(this.largestBatch, pictures.length);
    const { values, regions, width } = await this.encoder.features(
      pictures,
      pictures.map(() => 'the picture'),
    );
    const { asked, neighbors } = this.o;
    const found = await rankedCaptions(this.model.decoding, tensor(values, [pictures.length, regions, width]), asked, neighbors);
    return found.map(([best, ...rest]) => ({
      caption: this.vocabulary.decode(best.tokens),
      words: best.tokens.map((id, t) => ({ word: this.vocabulary.word(id), probability: Math.exp(best.logProbs[t]) })),
      ...{ logProb: best.logProb, others: rest.map(({ tokens }) => this.vocabulary.decode(tokens)), batch: pictures.length },
    }));
  }

  /** Waits for what is under way. */
  async drained(): Promise<void> {
    while (this.working) await this.working;
  }
}
