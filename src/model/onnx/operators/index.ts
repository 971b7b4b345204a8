/** Every operator that is supported, by its name; and those that constants can be computed with. */
import { GlimpseError } from '../../../errors.ts';
import { transposed } from '../host.ts';
import { type HostCall, type Made, type Operators, TO_FILE, TO_LAST } from '../operator.ts';
import { ACTIVATIONS } from './activations.ts';
import { ARITHMETIC } from './arithmetic.ts';
import { ATTENTION } from './attention.ts';
import { CASTS } from './casts.ts';
import { CONTROL } from './control.ts';
import { GATHER } from './gather.ts';
import { GENERATORS } from './generators.ts';
import { LOGIC } from './logic.ts';
import { LOSSES } from './losses.ts';
import { MATRIX } from './matrix.ts';
import { MOVES } from './moves.ts';
import { NORMS } from './norms.ts';
import { QUANTIZE } from './quantize.ts';
import { RECURRENT } from './recurrent.ts';
import { REDUCTIONS } from './reductions.ts';
import { RESIZE } from './resize.ts';
import { SAMPLING } from './sampling.ts';
import { SEQUENCES } from './sequences.ts';
import { SIGNAL } from './signal.ts';
import { TEXTS } from './texts.ts';
import { TRAINING } from './training.ts';
import { WINDOWS } from './windows.ts';

export const OPERATORS: Operators = {
  ...ARITHMETIC,
  ...ACTIVATIONS,
  ...LOGIC,
  ...REDUCTIONS,
  ...LOSSES,
  ...QUANTIZE,
  ...MOVES,
  ...CASTS,
  ...GATHER,
  ...GENERATORS,
  ...SEQUENCES,
  ...CONTROL,
  ...TEXTS,
  ...SAMPLING,
  ...MATRIX,
  ...ATTENTION,
  ...NORMS,
  ...WINDOWS,
  ...RESIZE,
  ...RECURRENT,
  ...SIGNAL,
  ...TRAINING,
};

/** Whether a node can run on the host. */
export function runsOnHost(call: HostCall): boolean {
  const { host, hosts } = OPERATORS[call.node.op];
  return host !== undefined && (hosts?.(call) ?? true);
}

/** Runs a node of which `runsOnHost` is true. Throws a GlimpseError that says what is wrong with its inputs. */
export function runOnHost(call: HostCall): readonly (Made | null)[] {
  const { host, where } = OPERATORS[call.node.op];
  const odd = where?.find((i) => call.inputs[i]?.kind === 'float');
  if (odd !== undefined) throw new GlimpseError(`input ${odd} holds floats, whole numbers are expected`);
  // What the host computes of pictures is in the file's order of axes.
  const isTurned = call.node.isChannelsLast ?? false;
  const [pictures, ...rest] = call.inputs;
  const made = host?.(isTurned ? { ...call, inputs: [turned(pictures, TO_FILE.nhwc), ...rest] } : call) ?? [];
  const results = Array.isArray(made) ? made : [made as Made];
  return isTurned ? results.map((value) => turned(value, TO_LAST)) : results;
}

/** Pictures with their axes in this order; any other value as it is. */
const turned = <T extends Made | null>(value: T, order: readonly number[]): T =>
  value && value.kind !== 'text' && value.shape.length === 4 ? transposed(value, order) : value;
