/**
 * A shader of the user's in the place of a family's versions. The text keeps the bindings, the `Params` and the constants of the
 * version that it is like, and the launcher of that version runs it. So it is checked, timed and traced like any other version,
 * and models run on it. Header lines say what it changes:
 *
 * - `// @like VERSION`: the version whose bindings, `Params` and launcher it takes; without this line the family's first.
 * - `// @tile ROWS COLUMNS`: what a workgroup owns of the result, in families that count tiles (matmul).
 * - `// @grid X Y Z`: workgroups in each dimension. Each is a product or quotient of numbers and fields of `Params`, rounded up,
 *   such as `hidden/64`. X, Y and Z alone stand for the workgroups of the version that it is like. Y and Z may be left out. An X
 *   above 65,535 is folded into X and Y, as `group.x + group.y * groups.x` counts them.
 */
import { GpuError, UsageError } from '../errors.ts';
import type { Gpu } from '../gpu/gpu.ts';
import type { Grid } from '../gpu/recorder.ts';
import { type LoadedShader, loadShader, type ShaderVariant } from '../gpu/shader.ts';
import { type ParamValues, scalarParams } from '../gpu/uniforms.ts';
import { grid } from './elementwise.ts';
import type { Family, Version } from './family.ts';

/** How a launcher runs the user's text. */
export interface UserShader {
  /** The version whose launcher runs it. */
  readonly like: string;
  /** The shader file of that version. */
  readonly shader: string;
  /** The variant to compile: of what the launcher asks for, the constants that the text declares. */
  variant(asked: Omit<ShaderVariant, 'file' | 'source'>): ShaderVariant;
  /** The workgroups to launch; `groups` are those of the version that it is like. */
  grid(params: ParamValues, groups: Grid): Grid;
}

/** A text, and the name that errors call it by, such as its path. */
export interface ShaderText {
  name: string;
  source: string;
}

interface Header {
  like: string | null;
  tile: readonly [number, number] | null;
  grid: string[] | null;
}

const MAX_GROUPS = 65535;
const AXES = ['X', 'Y', 'Z'] as const;

function readHeader({ name, source }: ShaderText): Header {
  const header: Header = { like: null, tile: null, grid: null };
  for (const [i, line] of source.split('\n').entries()) {
    const found = /^\s*\/\/\s*@(like|tile|grid)\b\s*(.*?)\s*$/.exec(line);
    if (!found) continue;
    const words = found[2].split(/\s+/).filter(Boolean);
    const wrong = (expected: string) => new UsageError(`${name}:${i + 1}: "${line.trim()}": ${expected}`);
    if (found[1] === 'like') {
      if (words.length !== 1) throw wrong('expected // @like VERSION');
      [header.like] = words;
    } else if (found[1] === 'tile') {
      const [rows, columns] = words.map(Number);
      if (words.length !== 2 || !words.every((word) => /^[1-9]\d*$/.test(word))) throw wrong('expected // @tile ROWS COLUMNS, two whole numbers');
      header.tile = [rows, columns];
    } else {
      if (words.length < 1 || words.length > 3) throw wrong('expected // @grid X Y Z, one to three terms without spaces in them');
      for (const word of words)
        if (!/^\w+([*/]\w+)*$/.test(word)) throw wrong(`"${word}" is no product or quotient of numbers and fields of Params, such as hidden/64`);
      header.grid = words;
    }
  }
  return header;
}

/** The value of a product or quotient, rounded up. */
function evaluate(term: string, values: ReadonlyMap<string, number>): number {
  const [first, ...rest] = term.split(/(?=[*/])/);
  const value = (text: string) => (/^\d+$/.test(text) ? Number(text) : (values.get(text) as number));
  const result = rest.reduce((product, factor) => (factor[0] === '*' ? product * value(factor.slice(1)) : product / value(factor.slice(1))), value(first));
  return Math.ceil(result - 1e-9);
}

function gridOf(terms: readonly string[], params: ParamValues, groups: Grid, name: string): Grid {
  const values = new Map<string, number>([...AXES.map((axis, i) => [axis, groups[i]] as const), ...Object.entries(scalarParams(params))]);
  const [x, y = 1, z = 1] = terms.map((term) => evaluate(term, values));
  if (![x, y, z].every((count) => Number.isFinite(count) && count >= 0))
    throw new GpuError('limit', name, `// @grid ${terms.join(' ')} comes to ${[x, y, z].join(' × ')} workgroups`);
  if (x <= MAX_GROUPS) return [x, y, z];
  return y === 1 ? [...grid(x, 1)] : [x, y, z];
}

/** What a text must have of the version that it is like. Throws a UsageError that names the first thing that is missing or unknown. */
function checkContract(name: string, what: string, own: LoadedShader, like: LoadedShader): void {
  const refuse = (problem: string): never => {
    throw new UsageError(`${name}: ${problem}`);
  };
  const bindings = (shader: LoadedShader) => shader.bindings.map((binding) => binding.name).join(', ');
  like.bindings.forEach(({ name: wanted, access }, i) => {
    const found = own.bindings[i];
    const written = access === 'texels' ? 'texture_storage_2d<rgba32float, read>' : `var<storage, ${access}>`;
    if (!found) refuse(`has no binding "${wanted}": @group(0) @binding(${i}), ${written}; ${what} binds ${bindings(like)}`);
    else if (found.name !== wanted) refuse(`binding ${i} is "${found.name}", must be "${wanted}"; ${what} binds ${bindings(like)}`);
    else if (found.access !== access) refuse(`binding "${wanted}" is ${found.access}, must be ${access}: ${written}`);
  });
  for (const { name: extra } of own.bindings.slice(like.bindings.length))
    refuse(`has a binding "${extra}" that ${what} does not give; it binds ${bindings(like)}`);
  const fields = like.params.map((field) => field.name).join(', ');
  for (const { name: wanted, type, count } of like.params) {
    const found = own.params.find((field) => field.name === wanted);
    if (!found) refuse(`Params has no parameter "${wanted}" (${type}); ${what} gives ${fields}`);
    else if (found.type !== type || found.count !== count) refuse(`parameter "${wanted}" is ${found.count} × ${found.type}, must be ${count} × ${type}`);
  }
  for (const { name: extra } of own.params)
    if (!like.params.some((field) => field.name === extra)) refuse(`Params has a parameter "${extra}" that ${what} does not give; it gives ${fields}`);
  for (const { name: wanted, launch } of like.overrides)
    if (!launch && !own.overrides.some((each) => each.name === wanted)) refuse(`has no "override ${wanted}", which says what ${what} computes`);
  for (const mark of like.marks) if (!own.marks.includes(mark)) refuse(`has no line "return …; // @expression ${mark}", which ${what} replaces`);
  for (const { name: extra } of own.overrides)
    if (!like.overrides.some((each) => each.name === extra)) refuse(`has an "override ${extra}" that ${what} does not give; write "const ${extra}"`);
}

/** Compile errors by line of the user's text: it is compiled as it stands, before loops are written out. */
async function checkCompiles(gpu: Gpu, { name, source }: ShaderText): Promise<void> {
  const errors = (await gpu.compilerErrors(source)).map(({ line, column, message }) => `${name}:${line}:${column}: ${message}`);
  if (errors.length > 0) throw new UsageError(errors.join('\n'));
}

/** The version of a name, in families that count tiles. */
type Tiled = { tile?(width: number): readonly [number, number] };

/**
 * Puts a shader of the user's in the place of all versions of a family; it is called `user:NAME` then. Whatever runs the family
 * runs this text, until the same call with null. Throws a UsageError that names the line where
 * the text does not compile, or what it lacks of the version that it is like.
 */
export async function replaceVersions(gpu: Gpu, family: Family<never>, text: ShaderText | null): Promise<void> {
  if (!text) {
    family.useOwn(null);
    return;
  }
  const { name, source } = text;
  const header = readHeader(text);
  const like = header.like ?? family.names[0];
  if (like.startsWith('user:') || !family.names.includes(like))
    throw new UsageError(
      `${name}: // @like ${like}: the versions of ${family.name} are ${family.names.filter((each) => !each.startsWith('user:')).join(', ')}`,
    );
  if (family.named(like).composed) throw new UsageError(`${name}: // @like ${like}: it runs several kernels, so no single shader can stand in for it`);
  const base = family.named(like) as Version<never> & Tiled;
  const load = (variant: ShaderVariant, from: string): LoadedShader => {
    try {
      return loadShader(variant, from);
    } catch (error) {
      if (error instanceof GpuError) throw new UsageError(error.message);
      throw error;
    }
  };
  const own = load({ file: name }, source);
  checkContract(
    name,
    family.versions.length > 1 ? `${family.name} ${like}` : family.name,
    own,
    loadShader({ file: base.shader }, gpu.host.shaderSource(base.shader)),
  );
  const fields = new Set([...AXES, ...own.params.filter(({ count }) => count === 1).map((field) => field.name)]);
  for (const word of header.grid?.flatMap((term) => term.split(/[*/]/)) ?? [])
    if (!/^\d+$/.test(word) && !fields.has(word as never))
      throw new UsageError(`${name}: // @grid has "${word}", which is no field of Params (${[...fields].join(', ')})`);
  if (header.tile && !base.tile) throw new UsageError(`${name}: // @tile: ${family.name} counts no tiles; give // @grid instead`);
  if (!/\bfn\s+main\s*\(/.test(source)) throw new UsageError(`${name}: has no entry point "fn main"`);
  await checkCompiles(gpu, text);
  const declared = (asked: Record<string, number> = {}, names: readonly string[]) =>
    Object.fromEntries(Object.entries(asked).filter(([constant]) => names.includes(constant)));
  const user: UserShader = {
    like,
    shader: base.shader,
    variant: ({ tune, constants, ...rest }) => ({
      ...rest,
      ...{ file: `user:${name}`, source },
      tune: declared(tune, Object.keys(own.tunable)),
      constants: declared(
        constants,
        own.overrides.map((each) => each.name),
      ),
    }),
    grid: (params, groups) => (header.grid ? gridOf(header.grid, params, groups, name) : groups),
  };
  const { tile } = header;
  const change = { name: `user:${name}`, idea: `your shader, like \`${like}\``, user, ...(tile ? { tile: () => tile } : {}) };
  family.useOwn({ like, change });
}

/** Widths of subgroups: a tile that differs between them cannot be written as a number. */
const WIDTHS = [4, 8];

function tileLine(version: Version<never> & { tile?(width: number): readonly [number, number] }): string[] {
  const tiles = WIDTHS.map((width) => version.tile?.(width).join(' '));
  if (tiles[0] === undefined || tiles[0] !== tiles[1]) return [];
  return ['// Rows and columns of the result that a workgroup owns:', `// @tile ${tiles[0]}`];
}

/** What a shader of the user's begins with: the text of a version, under the lines that say which one it is. */
export function startText(family: Family<never>, like: string, source: string): string {
  const version = family.named(like) as Version<never>;
  return `${[...tileLine(version), `// @like ${like}`].join('\n')}\n\n${source}`;
}
