/**
 * Counter-based random numbers: each value is a pure function of (seed, step, stream, index). Dropout, shuffling and
 * sampling are therefore the same after a resume and on any machine, and the GPU can draw numbers in any order.
 * The mixing is PCG4D (Jarzynski and Olano, "Hash Functions for GPU Rendering", JCGT 9(3), 2020). The shader
 * `dropout.wgsl` computes the same bits.
 */

function mul(a: number, b: number): number {
  return Math.imul(a, b) >>> 0;
}

/** Four independent 32-bit words. */
export function pcg4d(x: number, y: number, z: number, w: number): [number, number, number, number] {
  let a = (mul(x, 1664525) + 1013904223) >>> 0;
  let b = (mul(y, 1664525) + 1013904223) >>> 0;
  let c = (mul(z, 1664525) + 1013904223) >>> 0;
  let d = (mul(w, 1664525) + 1013904223) >>> 0;
  for (let round = 0; round < 2; round++) {
    a = (a + mul(b, d)) >>> 0;
    b = (b + mul(c, a)) >>> 0;
    c = (c + mul(a, b)) >>> 0;
    d = (d + mul(b, c)) >>> 0;
    if (round === 0) {
      a = (a ^ (a >>> 16)) >>> 0;
      b = (b ^ (b >>> 16)) >>> 0;
      c = (c ^ (c >>> 16)) >>> 0;
      d = (d ^ (d >>> 16)) >>> 0;
    }
  }
  return [a, b, c, d];
}

/** 32-bit FNV-1a of a name. Streams have names so that adding one does not shift the others. */
export function streamOf(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = mul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash;
}

/** Uniform in [0, 1) with 24 bits, as float32 holds them exactly. */
export function uniformFromBits(bits: number): number {
  return (bits >>> 8) / 2 ** 24;
}

/** A stream of numbers keyed by (seed, step, stream). `next*` only advances the index. */
export class Random {
  private index = 0;
  private readonly stream: number;
  constructor(
    readonly seed: number,
    stream: string,
    readonly step = 0,
  ) {
    this.stream = streamOf(stream);
  }

  uniform(low = 0, high = 1): number {
    return low + (high - low) * uniformFromBits(pcg4d(this.seed, this.step, this.stream, this.index++)[0]);
  }

  integer(below: number): number {
    return Math.floor(this.uniform() * below);
  }

  /** Standard normal (Box and Muller). */
  normal(): number {
    const [a, b] = pcg4d(this.seed, this.step, this.stream, this.index++);
    return Math.sqrt(-2 * Math.log(1 - uniformFromBits(a))) * Math.cos(2 * Math.PI * uniformFromBits(b));
  }

  /** 0 … count − 1 in random order (Fisher and Yates). */
  permutation(count: number): number[] {
    const order = Array.from({ length: count }, (_, i) => i);
    for (let i = count - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }
}

/** 16 hexadecimal digits that tell texts apart: two 32-bit FNV-1a hashes from different starts. Not for secrets. */
export function fingerprint(text: string): string {
  let [a, b] = [0x811c9dc5, 0x01000193];
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    a = mul(a ^ unit, 0x01000193);
    b = mul(b ^ unit, 0x85ebca6b);
  }
  return [a, b].map((word) => word.toString(16).padStart(8, '0')).join('');
}
