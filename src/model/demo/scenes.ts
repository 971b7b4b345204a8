/**
 * Captioned scenes for the demo: one or two flat shapes on a textured ground. A fixed grammar describes their size, color, shape
 * and relation. The position of each shape is known, so captions and attention can both be checked exactly.
 *
 *   a small red circle
 *   a small red circle above a large blue square
 *   a large green triangle left of a small yellow circle
 */
import { Random } from '../../random.ts';

export const SCENE_SIZE = 64;
/** Regions of the encoder's map along one side. Each covers 8 × 8 pixels. */
export const SCENE_GRID = 8;

export const COLORS: Record<string, readonly [number, number, number]> = {
  red: [220, 50, 47],
  green: [40, 160, 70],
  blue: [50, 90, 220],
  yellow: [235, 200, 40],
  purple: [150, 60, 190],
  white: [245, 245, 245],
};
export const SHAPES = ['circle', 'square', 'triangle'] as const;
const SIZES = { small: 7, large: 12 } as const;

export interface SceneObject {
  size: keyof typeof SIZES;
  color: string;
  shape: (typeof SHAPES)[number];
  /** Center in pixels. */
  x: number;
  y: number;
}

export interface Scene {
  objects: SceneObject[];
  caption: string[];
  /** For each word of the caption, the object it names (0 or 1), or −1. */
  names: number[];
  /** RGB, 3 × 64 × 64 bytes, interleaved. */
  pixels: Uint8Array;
}

function inside(o: SceneObject, x: number, y: number): boolean {
  const r = SIZES[o.size];
  const [dx, dy] = [x - o.x, y - o.y];
  switch (o.shape) {
    case 'circle':
      return dx * dx + dy * dy <= r * r;
    case 'square': {
      const side = Math.max(Math.abs(dx), Math.abs(dy)); // a square is drawn as a frame
      return side <= 0.95 * r && side >= 0.5 * r;
    }
    default:
      return dy <= 0.8 * r && dy >= -r && Math.abs(dx) <= (dy + r) / 1.8;
  }
}

function draw(objects: readonly SceneObject[], random: Random): Uint8Array {
  const pixels = new Uint8Array(3 * SCENE_SIZE * SCENE_SIZE);
  const ground = [0, 1, 2].map(() => random.uniform(55, 105));
  const color = [0, 0, 0];
  for (let y = 0; y < SCENE_SIZE; y++) {
    for (let x = 0; x < SCENE_SIZE; x++) {
      const noise = random.uniform(-12, 12);
      for (let c = 0; c < 3; c++) color[c] = ground[c] + noise;
      for (const object of objects) {
        if (Math.max(Math.abs(x - object.x), Math.abs(y - object.y)) > SIZES[object.size] + 1) continue;
        let covered = 0; // four samples per pixel soften the edges
        for (let sample = 0; sample < 4; sample++) if (inside(object, x + 0.25 + 0.5 * (sample & 1), y + 0.25 + 0.25 * (sample & 2))) covered += 0.25;
        for (let c = 0; c < 3; c++) color[c] = (1 - covered) * color[c] + covered * (COLORS[object.color][c] + noise / 2);
      }
      for (let c = 0; c < 3; c++) pixels[3 * (y * SCENE_SIZE + x) + c] = Math.max(0, Math.min(255, color[c]));
    }
  }
  return pixels;
}

const pick = <T>(random: Random, list: readonly T[]): T => list[random.integer(list.length)];

/** Scene `index` of a seed. The same (seed, index) always gives the same scene. */
export function makeScene(seed: number, index: number): Scene {
  const random = new Random(seed, 'scene', index);
  const object = (): SceneObject => ({
    size: pick(random, ['small', 'large'] as const),
    color: pick(random, Object.keys(COLORS)),
    shape: pick(random, SHAPES),
    x: 0,
    y: 0,
  });
  const place = (o: SceneObject, low: number, high: number) => {
    const r = SIZES[o.size] + 1;
    return Math.min(Math.max(random.uniform(low, high), r), SCENE_SIZE - r);
  };
  const first = object();
  const phrase = (o: SceneObject) => ['a', o.size, o.color, o.shape];
  if (random.uniform() < 0.3) {
    first.x = place(first, 0, SCENE_SIZE);
    first.y = place(first, 0, SCENE_SIZE);
    return { objects: [first], caption: phrase(first), names: [0, 0, 0, 0], pixels: draw([first], random) };
  }
  let second = object();
  while (second.color === first.color && second.shape === first.shape) second = object();
  // The caption names the upper or left object first. The two are far enough apart to make the relation clear.
  const vertical = random.uniform() < 0.5;
  const middle = SCENE_SIZE / 2;
  const along = (o: SceneObject, side: number) => (side === 0 ? place(o, 0, middle - 15) : place(o, middle + 15, SCENE_SIZE));
  const across = random.uniform(0.3 * SCENE_SIZE, 0.7 * SCENE_SIZE);
  for (const [side, o] of [first, second].entries()) {
    const shifted = Math.min(Math.max(across + random.uniform(-6, 6), SIZES[o.size] + 1), SCENE_SIZE - SIZES[o.size] - 1);
    o.x = vertical ? shifted : along(o, side);
    o.y = vertical ? along(o, side) : shifted;
  }
  const relation = vertical ? ['above'] : ['left', 'of'];
  return {
    objects: [first, second],
    caption: [...phrase(first), ...relation, ...phrase(second)],
    names: [0, 0, 0, 0, ...relation.map(() => -1), 1, 1, 1, 1],
    pixels: draw([first, second], random),
  };
}

/** Share of the map's weight within the object's box, which is enlarged by half a region on each side. */
export function weightOnObject(alpha: ArrayLike<number>, o: SceneObject): number {
  const cell = SCENE_SIZE / SCENE_GRID;
  const r = SIZES[o.size];
  let total = 0;
  for (let i = 0; i < alpha.length; i++) {
    const [x, y] = [((i % SCENE_GRID) + 0.5) * cell, (Math.floor(i / SCENE_GRID) + 0.5) * cell];
    if (Math.abs(x - o.x) <= r + cell / 2 && Math.abs(y - o.y) <= r + cell / 2) total += alpha[i];
  }
  return total;
}

/** Whether the region with the most weight lies on the object (the pointing game of Zhang et al. 2016, with half a region of slack). */
export function pointsAt(alpha: ArrayLike<number>, o: SceneObject): boolean {
  let best = 0;
  for (let i = 1; i < alpha.length; i++) if (alpha[i] > alpha[best]) best = i;
  const cell = SCENE_SIZE / SCENE_GRID;
  const [x, y] = [((best % SCENE_GRID) + 0.5) * cell, (Math.floor(best / SCENE_GRID) + 0.5) * cell];
  return Math.abs(x - o.x) <= SIZES[o.size] + cell / 2 && Math.abs(y - o.y) <= SIZES[o.size] + cell / 2;
}

/** Added to a seed for scenes of validation and test, so that none of them is a training scene. */
const UNSEEN = 1_000_003;

/** Scene `index` of those that training is watched with. */
export const validationScene = (seed: number, index: number): Scene => makeScene(seed + UNSEEN, index);

/** Scene `index` of those that nothing of a training sees. */
export const unseenScene = (seed: number, index: number): Scene => makeScene(seed + 2 * UNSEEN, index);
