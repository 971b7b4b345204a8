/**
 * Loads a shader file and makes it ready to compile. A file is valid WGSL as it stands. Only three things are rewritten:
 *
 * - `const TILE: u32 = 4u; // @tune 2 4 8` takes another of the listed values.
 * - A loop `for (var r = 0u; r < TILE; r++) { // @unroll` is written out, with literals in place of its variable. Register
 *   tiles need constant indices. With `// @unroll broadcast` the lanes of its
 *   `subgroupShuffle`s are constants after that, so they become the cheaper `subgroupBroadcast`s.
 * - The expression of an elementwise table row replaces the line marked `// @expression NAME`.
 *
 * It also reads the bindings, the `override` constants and the `Params` struct from the text, so that launchers pass parameters
 * by name. A constant marked `// @launch` says how the work is shared out; all others say what is computed.
 */
import { GpuError } from '../errors.ts';

/** `texels`: a texture that holds a copy of the storage (src/gpu/texels.ts). */
export type Access = 'read' | 'read_write' | 'texels';
export type ScalarType = 'u32' | 'i32' | 'f32';

export interface ParamField {
  name: string;
  type: ScalarType;
  /** 1 for a scalar, 4 × n for `array<vec4…, n>` or `vec4`. */
  count: number;
  /** In 4-byte words. */
  offset: number;
}

/** A shader, and what is changed in it before it is compiled. */
export interface ShaderVariant {
  /** A file of kernels/wgsl, without ending; of another shader, its name in errors and profiles. */
  file: string;
  /** The WGSL text of a shader that is no file of kernels/wgsl. */
  source?: string;
  /** Values of the `@tune` constants. */
  tune?: Record<string, number>;
  /** `override` constants. */
  constants?: Record<string, number>;
  /** Texts of the `@expression` lines, by name. */
  expressions?: Record<string, string>;
}

export interface LoadedShader {
  code: string;
  bindings: { name: string; access: Access }[];
  params: ParamField[];
  paramWords: number;
  /** The `override` constants, and whether each is marked `@launch`. */
  overrides: { name: string; launch: boolean }[];
  /** Names of the lines marked `@expression`. */
  marks: string[];
  needsSubgroups: boolean;
  /** Every `@tune` constant of the file with the values it may take. */
  tunable: Record<string, number[]>;
}

/** Value of a product of literals and constants such as `4u * WIDTH`. */
function evaluate(expression: string, constants: Map<string, number>): number | null {
  let product = 1;
  for (const factor of expression.split('*')) {
    const text = factor.trim();
    const value = /^\d+u?$/.test(text) ? Number.parseInt(text, 10) : constants.get(text);
    if (value === undefined) return null;
    product *= value;
  }
  return product;
}

function applyTune(file: string, text: string, tune: Record<string, number>): { text: string; tunable: Record<string, number[]> } {
  const tunable: Record<string, number[]> = {};
  const result = text.replace(/^const (\w+): u32 = (\d+)u;( *\/\/ @tune ([\d ]+))$/gm, (line, name: string, _value, mark: string, values: string) => {
    tunable[name] = values.trim().split(/\s+/).map(Number);
    if (!(name in tune)) return line;
    if (!tunable[name].includes(tune[name])) {
      throw new GpuError('shader', file, `${name} = ${tune[name]} is not among its @tune values ${values}`);
    }
    return `const ${name}: u32 = ${tune[name]}u;${mark}`;
  });
  for (const name of Object.keys(tune)) if (!(name in tunable)) throw new GpuError('shader', file, `has no @tune constant ${name}`);
  return { text: result, tunable };
}

function closingBrace(text: string, open: number): number {
  let depth = 0;
  for (let i = open; i < text.length; i++) {
    if (text[i] === '{') depth++;
    else if (text[i] === '}' && --depth === 0) return i;
  }
  return -1;
}

function unroll(file: string, text: string): string {
  const constants = new Map<string, number>();
  for (const [, name, expression] of text.matchAll(/^const (\w+): u32 = ([^;]+);/gm)) {
    const value = evaluate(expression, constants);
    if (value !== null) constants.set(name, value);
  }
  const loop = /for \(var (\w+) = 0u; \1 < ([^;]+); \1\+\+\) \{ \/\/ @unroll( broadcast)?\n/;
  for (;;) {
    const match = loop.exec(text);
    if (!match) return text;
    const [head, variable, bound, broadcast] = match;
    const count = evaluate(bound, constants);
    const open = match.index + head.indexOf('{');
    const close = closingBrace(text, open);
    if (count === null || close < 0) throw new GpuError('shader', file, `cannot unroll the loop over ${variable}: its bound ${bound} is no constant`);
    const source = text.slice(match.index + head.length, close);
    const body = broadcast ? source.replaceAll('subgroupShuffle(', 'subgroupBroadcast(') : source;
    const name = new RegExp(`(?<![.\\w])${variable}\\b`, 'g');
    let copies = '';
    for (let i = 0; i < count; i++) copies += `{\n${body.replace(name, `${i}u`)}}\n`;
    text = text.slice(0, match.index) + copies + text.slice(close + 1);
  }
}

/** The text without its comments. */
const uncommented = (text: string) => text.replace(/\/\/[^\n]*|\/\*[\s\S]*?\*\//g, ' ');

function parseParams(file: string, text: string): { params: ParamField[]; paramWords: number } {
  const struct = /struct\s+Params\s*\{([^}]*)\}/.exec(text);
  if (!struct) return { params: [], paramWords: 0 };
  const field = /\s*(\w+)\s*:\s*(?:(u32|i32|f32)|vec4(?:<(u32|i32|f32)>|([uif]))|array<vec4(?:<(u32|i32|f32)>|([uif])),\s*(\d+)>)\s*(?:,|$)/y;
  const SHORT: Record<string, ScalarType> = { u: 'u32', i: 'i32', f: 'f32' };
  const params: ParamField[] = [];
  let offset = 0;
  while (struct[1].slice(field.lastIndex).trim() !== '') {
    const at = field.lastIndex;
    const match = field.exec(struct[1]);
    if (!match) throw new GpuError('shader', file, `cannot lay out this field of Params: ${struct[1].slice(at).trim().split('\n')[0]}`);
    const [, name, scalar, vector, shortVector, array, shortArray, length] = match;
    const count = length ? 4 * Number(length) : scalar ? 1 : 4;
    if (count > 1) offset = Math.ceil(offset / 4) * 4;
    params.push({ name, type: (scalar ?? vector ?? array ?? SHORT[shortVector ?? shortArray]) as ScalarType, count, offset });
    offset += count;
  }
  return { params, paramWords: Math.ceil(offset / 4) * 4 };
}

const BINDING = /@group\(\s*0\s*\)\s*@binding\(\s*(\d+)\s*\)\s*var(?:\s*<\s*(storage)\s*(?:,\s*(read|read_write)\s*)?>)?\s*(\w+)/g;

/** Makes a shader file's text ready to compile. */
export function loadShader({ file, tune = {}, expressions = {} }: ShaderVariant, source: string): LoadedShader {
  const tuned = applyTune(file, source, tune);
  let code = unroll(file, tuned.text);
  for (const [name, text] of Object.entries(expressions)) {
    const mark = new RegExp(`return [^;]*; // @expression ${name}$`, 'm');
    if (!mark.test(code)) throw new GpuError('shader', file, `has no line marked // @expression ${name}`);
    code = code.replace(mark, () => `return ${text};`);
  }
  const plain = uncommented(code);
  const bindings: LoadedShader['bindings'] = [];
  for (const [, index, storage, access, name] of plain.matchAll(BINDING)) {
    bindings[Number(index)] = { name, access: storage ? ((access as Access | undefined) ?? 'read') : 'texels' };
  }
  const marks = [...source.matchAll(/; \/\/ @expression (\w+)$/gm)].map(([, name]) => name);
  const overrides = [...code.matchAll(/^[ \t]*override\s+(\w+)([^\n]*)/gm)].map(([, name, rest]) => ({ name, launch: rest.includes('// @launch') }));
  return {
    code,
    bindings,
    ...parseParams(file, plain),
    overrides,
    marks,
    needsSubgroups: /^\s*enable\s+[^;]*\bsubgroups\b/m.test(plain),
    tunable: tuned.tunable,
  };
}
