/** Resize and Upsample: other grids over sequences, pictures and volumes. */
import * as ops from '../../../autograd/ops/index.ts';
import { GlimpseError } from '../../../errors.ts';
import { normalizeAxis, sizeOf } from '../../../tensor/shape.ts';
import { zeros } from '../../../tensor/tensor.ts';
import { attribute, type Check, type Context, type Operators, plain, text, wordOf } from '../operator.ts';
import type { OnnxNode } from '../proto.ts';
import type { Value } from '../values.ts';
import { shown } from '../wire.ts';
import { passed } from './arithmetic.ts';

const MODES = ['nearest', 'linear', 'cubic'];
const COORDINATES = ['half_pixel', 'half_pixel_symmetric', 'pytorch_half_pixel', 'align_corners', 'asymmetric', 'tf_crop_and_resize', 'tf_half_pixel_for_nn'];
const ROUNDINGS = ['round_prefer_floor', 'round_prefer_ceil', 'floor', 'ceil'];

function checkResize(node: OnnxNode, c: Check): void {
  const known = (name: string, otherwise: string, choices: readonly string[]): void => {
    const said = wordOf(node, name, otherwise);
    if (!choices.includes(said)) c.fail(`${name} is "${shown(said)}", one of ${choices.join(', ')} is expected`);
  };
  known('mode', 'nearest', [...MODES, 'bilinear']);
  known('coordinate_transformation_mode', 'half_pixel', COORDINATES);
  known('nearest_mode', 'round_prefer_floor', ROUNDINGS);
  known('keep_aspect_ratio_policy', 'stretch', ['stretch', 'not_larger', 'not_smaller']);
}

/** Numbers of an input on the host; null if it is left out or empty. */
function listAt(c: Context, i: number): number[] | null {
  const given = c.numbers(i);
  return given && given.data.length > 0 ? Array.from(given.data) : null;
}

/** Resize of opset 10 and later, and Upsample before it. Axes whose extent stays are left alone. */
function resizing(c: Context): Value {
  const old = c.node.op === 'Upsample' || c.opset < 11;
  const x = c.plain(0);
  const [roiAt, scalesAt, sizesAt] = old ? [-1, 1, -1] : [1, 2, 3];
  const scales =
    c.list('scales') ?? (c.node.attributes.has('height_scale') ? [1, 1, c.number('height_scale', 1), c.number('width_scale', 1)] : listAt(c, scalesAt));
  const sizes = sizesAt < 0 ? null : listAt(c, sizesAt);
  if ((scales === null) === (sizes === null)) throw new GlimpseError('one of scales and sizes is expected');
  const axes = (c.list('axes') ?? x.shape.map((_, axis) => axis)).map((axis) => normalizeAxis(axis, x.shape, c.node.op));
  const given = (scales ?? sizes) as number[];
  if (given.length !== axes.length) throw new GlimpseError(`${given.length} ${scales ? 'scales' : 'sizes'} for ${axes.length} axes`);
  if (scales?.some((scale) => !(scale > 0)) || sizes?.some((size) => !(size >= 0))) throw new GlimpseError(`${scales ? 'scales' : 'sizes'} [${given}]`);
  const mode = wordOf(c.node, 'mode', 'nearest').replace('bilinear', 'linear') as ops.ResizeMode;
  const coordinates = old ? 'asymmetric' : (wordOf(c.node, 'coordinate_transformation_mode', 'half_pixel') as ops.ResizeCoordinates);
  const policy = wordOf(c.node, 'keep_aspect_ratio_policy', 'stretch');
  let used: { sizes?: number[]; scales?: number[] } = scales ? { scales } : { sizes: sizes as number[] };
  if (sizes && policy !== 'stretch') {
    const ratios = sizes.map((size, i) => size / x.shape[axes[i]]);
    const scale = policy === 'not_larger' ? Math.min(...ratios) : Math.max(...ratios);
    used = { sizes: axes.map((axis) => Math.floor(x.shape[axis] * scale + 0.5)), scales: axes.map(() => scale) };
  }
  const roi = coordinates === 'tf_crop_and_resize' ? listAt(c, roiAt) : null;
  const out = [...x.shape];
  for (const [i, axis] of axes.entries()) out[axis] = used.sizes?.[i] ?? Math.floor(x.shape[axis] * (used.scales?.[i] ?? 1));
  c.model.budget.expect(out, mode === 'nearest' ? 1 : 16);
  if (sizeOf(out) === 0) return plain(zeros(out));
  // An axis that is neither scaled nor cropped is not touched.
  const moving = axes.flatMap((axis, i) =>
    coordinates === 'tf_crop_and_resize' || (used.scales ? used.scales[i] !== 1 : out[axis] !== x.shape[axis]) ? [i] : [],
  );
  if (moving.length === 0) return passed(c);
  const pick = (values: readonly number[] | undefined): number[] | undefined => values && moving.map((i) => values[i]);
  const common = {
    ...{ mode, axes: moving.map((i) => axes[i]), coordinates, extrapolation: c.number('extrapolation_value', 0) },
    ...{ rounding: old ? ('floor' as const) : (wordOf(c.node, 'nearest_mode', 'round_prefer_floor') as ops.ResizeRounding) },
    ...{ cubicA: c.number('cubic_coeff_a', -0.75), excludeOutside: c.number('exclude_outside', 0) === 1, antialias: c.number('antialias', 0) === 1 },
    ...(roi ? { roi: [...moving.map((i) => roi[i]), ...moving.map((i) => roi[axes.length + i])] } : {}),
  };
  const [pickedScales, pickedSizes] = [pick(used.scales), pick(used.sizes)];
  return plain(ops.resize(x, { ...common, ...(pickedScales ? { scales: pickedScales } : {}), ...(pickedSizes ? { sizes: pickedSizes } : {}) }));
}

export const RESIZE: Operators = {
  Resize: {
    inputs: (opset) => (opset >= 13 ? [1, 4] : opset >= 11 ? [3, 4] : [2, 2]),
    attributes: {
      mode: text,
      coordinate_transformation_mode: attribute('string', { since: 11 }),
      cubic_coeff_a: attribute('float', { since: 11 }),
      exclude_outside: attribute('flag', { since: 11 }),
      extrapolation_value: attribute('float', { since: 11 }),
      nearest_mode: attribute('string', { since: 11 }),
      antialias: attribute('flag', { since: 18 }),
      axes: attribute('ints', { since: 18 }),
      keep_aspect_ratio_policy: attribute('string', { since: 18 }),
    },
    check: checkResize,
    read: [1, 2, 3],
    device: resizing,
  },
  Upsample: {
    inputs: (opset) => (opset >= 9 ? [2, 2] : [1, 1]),
    attributes: {
      mode: text,
      scales: attribute('floats', { since: 7, until: 8 }),
      height_scale: attribute('float', { until: 6 }),
      width_scale: attribute('float', { until: 6 }),
    },
    check: checkResize,
    read: [1],
    device: resizing,
  },
};
