/** What the build puts in: build/content.ts makes the modules, vite.config.ts the version. */
declare const __VERSION__: string;

declare module 'virtual:equations' {
  /** MathML by TeX. */
  const equations: Readonly<Record<string, string>>;
  export default equations;
}

declare module 'virtual:wgsl' {
  type Line = readonly (readonly [kind: string, text: string])[];
  /** Every shader in color, by its name; loaded when it is asked for. */
  const shaders: Readonly<Record<string, () => Promise<{ default: readonly Line[] }>>>;
  export default shaders;
}

declare module 'virtual:course' {
  const chapters: readonly { slug: string; title: string; load(): Promise<{ default: string }> }[];
  export default chapters;
}

declare module 'pica' {
  /** Scales pictures; only what is used here. */
  export default class Pica {
    constructor(o: { features: string[]; createCanvas(width: number, height: number): HTMLCanvasElement });
    resizeBuffer(o: { src: Uint8Array; width: number; height: number; toWidth: number; toHeight: number; filter: string }): Promise<Uint8Array>;
  }
}
