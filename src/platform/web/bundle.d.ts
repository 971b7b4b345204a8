/** scripts/bundle.js makes bundle.js from kernels/wgsl and kernels/tuned, because a browser has no files. It is not committed. */
import type { AdapterKind } from '../../gpu/adapter.ts';
import type { TuningTable } from '../../kernels/tuning.ts';

/** Texts of the shaders, by name without the ending. */
export const SHADERS: Readonly<Record<string, string>>;
/** The committed tuning tables, by kind of adapter. */
export const TUNED: Readonly<Record<AdapterKind, TuningTable>>;
