/**
 * What a command declares, and how a command line is made of declarations. The code that does the work is loaded when its command
 * is called. An option without effect is refused before that, so no file is open and no device found.
 */
import { Command, Option } from 'commander';
import { checkEncoding } from '../data/text.ts';
import { UsageError } from '../errors.ts';
import {
  defaultText,
  FLAG,
  fixedDefaults,
  flagOf,
  JOINT,
  type OptionsOf,
  type Row,
  type Rows,
  refuseWithoutEffect,
  repeated,
  settled,
  text,
  withOption,
} from '../options.ts';

export interface Declaration {
  /** Two words for a command within another, as "onnx check"; `within` describes the outer one. */
  name: string;
  description: string;
  within?: string;
  /** `<name>` is needed, `[name]` may be left out, and `…...` takes several; the help for each. */
  arguments?: Readonly<Record<string, string>>;
  options: Rows;
  /** Values that decide about the defaults of other options, the most decisive first. */
  deciding?(values: Readonly<Record<string, unknown>>): string[];
  /** Loads the work, which takes options and arguments and gives the exit code. */
  run(): Promise<(options: never, ...args: never[]) => Promise<number>>;
}

/** A declaration whose work takes the options that it declares. */
export function command<R extends Rows>(
  declaration: Omit<Declaration, 'options' | 'run'> & { options: R; run(): Promise<(options: OptionsOf<R>, ...args: never[]) => Promise<number>> },
): Declaration {
  return declaration;
}

/** For commands that open a device. */
export const DEVICE = {
  adapter: {
    values: text('name'),
    help: 'auto, gpu, lavapipe, swiftshader, or a part of an adapter’s name',
    defaultNote: 'GLIMPSE_ADAPTER, or auto',
  },
} satisfies Rows;

/** A shader of the user's, and the kernel family whose versions it takes the place of. */
export interface ShaderChoice {
  family: string;
  file: string;
}

/** For commands that run kernels: shaders of the user's. */
export const SHADER = {
  shader: {
    values: repeated('family=file', (given, flag): ShaderChoice => {
      const [, family, file] = /^(\w+)=(.+)$/.exec(given) ?? [];
      if (!family) throw new UsageError(`${flag} takes FAMILY=FILE, such as matmul=mine.wgsl, got "${given}"`);
      return { family, file };
    }),
    help: 'a WGSL file of yours in the place of a kernel family’s versions, checked first; repeatable (`glimpse new-kernel` writes a start)',
  },
} satisfies Rows;

export const WATCH = {
  watch: { values: FLAG, belongsTo: [withOption('shader')], help: 'run again whenever a shader is saved, until Ctrl-C' },
} satisfies Rows;

/** For commands that read text which people wrote. */
export const ENCODING = {
  encoding: {
    values: text('name', checkEncoding),
    defaultNote: 'utf-8',
    help: 'encoding of text files without a byte-order mark, such as windows-1252',
  },
} satisfies Rows;

/** For commands that read the pictures which a list or a dataset names. */
export const LINKS = {
  followLinks: { values: FLAG, help: 'take pictures, too, that are links out of the picture folder' },
} satisfies Rows;

export const OUTPUT = {
  json: { values: FLAG, help: 'print the result as JSON on stdout' },
  quiet: { values: FLAG, help: 'print only results and errors' },
} satisfies Rows;

function optionHelp(row: Row, name: string): string {
  const { help, belongsTo = [] } = row;
  const { choices, kind } = row.values;
  const fallback = defaultText(row);
  const notes = [
    ...(row.required ? ['required'] : []),
    ...(choices ? [choices.join(', ')] : []),
    ...(kind === 'switch' ? [`${flagOf(name, false)} turns it off`] : []),
    ...(fallback ? [`default: ${fallback}`] : []),
    ...(belongsTo.length > 0 ? [`only with ${belongsTo.map(({ to }) => to).join(' and ')}`] : []),
  ];
  return notes.length > 0 ? `${help} (${notes.join('; ')})` : help;
}

/** Commander's options for a row: two for a switch. */
function optionsOf(name: string, row: Row): Option[] {
  const { kind, placeholder, parse } = row.values;
  const flag = flagOf(name);
  const option = new Option(placeholder ? `${flag} <${placeholder}${kind === 'list' ? '...' : ''}>` : flag, optionHelp(row, name));
  if (kind === 'several') option.variadic = false; // its words come joined
  if (row.required) option.makeOptionMandatory();
  if (kind === 'list' || kind === 'repeated') option.argParser((given: string, before: unknown[] = []) => [...before, ...(parse(given, flag) as unknown[])]);
  else if (placeholder) option.argParser((given: string) => parse(given, flag));
  const all = kind === 'switch' ? [option, new Option(flagOf(name, false)).hideHelp()] : [option];
  for (const each of row.group ? all : []) each.helpGroup(`${row.group}:`);
  return all;
}

/** The options that were given on the command line, by their names in `rows`. */
function givenOf(self: Command, rows: Rows): Record<string, unknown> {
  const entries = Object.entries(rows).flatMap(([name, row]) => {
    // The library takes `--no-repeat` for the opposite of a "repeat": the value is asked for under its name, not ours.
    const attribute = optionsOf(name, row)[0].attributeName();
    return self.getOptionValueSource(attribute) === 'cli' ? [[name, self.getOptionValue(attribute)]] : [];
  });
  return Object.fromEntries(entries);
}

const plainName = (argument: string) => argument.replace(/[^a-z]/g, '');

function addCommand(program: Command, declaration: Declaration, onCode: (code: number) => void): void {
  const { name, description, within = '', arguments: args = {}, options, deciding, run } = declaration;
  const [outer, inner] = name.split(' ');
  const parent = inner ? (program.commands.find((each) => each.name() === outer) ?? program.command(outer).description(within)) : program;
  // What stands behind the inner command's name is its own, also where the outer one has an option of that name.
  parent.enablePositionalOptions();
  const made = parent.command(inner ?? outer).description(description);
  for (const [argument, help] of Object.entries(args)) made.argument(argument, help);
  for (const [option, row] of Object.entries(options)) for (const each of optionsOf(option, row)) made.addOption(each);
  made.action(async (...all: unknown[]) => {
    const given = givenOf(made, options);
    const values: Record<string, unknown> = { ...fixedDefaults(options), ...given };
    const named = Object.fromEntries(Object.keys(args).map((argument, i) => [plainName(argument), all[i]]));
    refuseWithoutEffect(options, new Set(Object.keys(given)), { ...settled(options, values, deciding?.(values) ?? []), ...named });
    const work = (await run()) as (options: unknown, ...args: unknown[]) => Promise<number>;
    onCode(await work(values, ...all.slice(0, Object.keys(args).length)));
  });
}

const isFlag = (word: string) => word.startsWith('-') && word !== '-';

/**
 * The words of a command line, with those after a flag of the kind "several" as one. The library's own lists add up where a flag is given
 * again. A command with arguments takes one word where no argument stands before the options: the next may be its argument.
 */
function joinedWords(declarations: readonly Declaration[], argv: readonly string[]): string[] {
  const found = declarations.find(({ name }) => name.split(' ').every((word, i) => argv[i] === word));
  const first = found?.name.split(' ').length ?? 0;
  const flags = new Set(Object.entries(found?.options ?? {}).flatMap(([name, { values }]) => (values.kind === 'several' ? [flagOf(name)] : [])));
  const isOpen = found?.arguments === undefined || !isFlag(argv[first] ?? '-x');
  const words: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    words.push(argv[i]);
    if (argv[i] === '--') return [...words, ...argv.slice(i + 1)];
    if (!flags.has(argv[i])) continue;
    let end = i + 1;
    while (isOpen && end < argv.length && !isFlag(argv[end])) end++;
    if (end > i + 2) words.push(argv.slice(i + 1, end).join(JOINT));
    else continue;
    i = end - 1;
  }
  return words;
}

function throwInsteadOfExit(command: Command): void {
  command.exitOverride();
  for (const each of command.commands) throwInsteadOfExit(each);
}

/** Runs the command that `argv` names and gives its exit code; throws what the command throws, and commander's errors. */
export async function runCommand(declarations: readonly Declaration[], version: string, argv: readonly string[]): Promise<number> {
  const program = new Command('glimpse')
    .description('A tensor engine with hand-written WGSL kernels, and an image captioner trained on it')
    .version(version)
    .showHelpAfterError('(--help shows the options)');
  let code = 0;
  for (const declaration of declarations)
    addCommand(program, declaration, (given) => {
      code = given;
    });
  throwInsteadOfExit(program);
  await program.parseAsync(joinedWords(declarations, argv), { from: 'user' });
  return code;
}
