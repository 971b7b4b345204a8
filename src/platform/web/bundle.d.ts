/** Made from kernels/wgsl and kernels/tuned by scripts/bundle.js, since a browser has no files; not committed. */
import type { TuningTable } from '../../kernels/tuning.ts';

/** Texts of the shaders, by name without ending. */
export const SHADERS: Readonly<Record<string, string>>;
/** The committed tuning tables, by kind of adapter. */
export const TUNED: Readonly<Record<'lavapipe' | 'swiftshader' | 'generic', TuningTable>>;
