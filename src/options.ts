/**
 * An option as a row of data: which values it takes, what it does, and what it belongs to. The command line, the fields of
 * checkpoints and the tables in the docs are made of such rows. This file imports almost nothing, so that `--help` stays quick.
 */
import { UsageError } from './errors.ts';

export interface Range {
  atLeast?: number;
  above?: number;
  atMost?: number;
  below?: number;
}

/** Old names of values. Old files are read with them; the command line refuses them and tells the new name. */
export interface Renamed {
  /** The word for such a value in messages, such as "preset". */
  what: string;
  /** Old name → new name. */
  names: Readonly<Record<string, string>>;
}

export type Kind = 'flag' | 'switch' | 'text' | 'list' | 'several' | 'repeated' | 'whole' | 'number' | 'choice';

/** The values that an option takes, of type T. A flag is given or not; a switch is `--x` or `--no-x`. */
export interface Values<T, K extends Kind = Kind> {
  kind: K;
  /** The placeholder for the value in the help, such as "file". */
  placeholder: string;
  choices?: readonly string[];
  range?: Range;
  renamed?: Renamed;
  /** A value as it was typed → the value; throws a UsageError that names the flag. */
  parse(text: string, flag: string): T;
}

/** What an option belongs to: without it, the option would have no effect. */
export interface Condition {
  /** The text after "belongs to" in a refusal. */
  to: string;
  /** The reason, where `to` alone does not say it. Only a refusal shows it. */
  why?: string;
  /** `values` has all options and arguments by name, defaults included. A value that is not known yet is undefined. */
  holds(values: Readonly<Record<string, unknown>>): boolean;
  /** The text after the flag in a refusal, instead of "belongs to …". */
  refusal?: string;
}

export interface Row<T = unknown> {
  values: Values<T>;
  help: string;
  required?: true;
  /** The value where the option is not given. */
  default?: T;
  /** Defaults that depend on another option: its value → the default. Only `settled` fills them in. */
  defaults?: Readonly<Record<string, T>>;
  /** How the help names the default, where it is not a value of this option. */
  defaultNote?: string;
  belongsTo?: readonly Condition[];
  /** Heading in the help and in the docs. */
  group?: string;
}

/** Options by name, as programs spell it: `batchImages` is written `--batch-images`. */
export type Rows = Readonly<Record<string, Row>>;

type ValueOf<R> = R extends { values: Values<infer T, infer K> }
  ? K extends 'flag'
    ? boolean
    : R extends { required: true } | { default: unknown }
      ? T
      : T | undefined
  : never;

/** The values of a command's options: undefined where one was not given and has no fixed default. */
export type OptionsOf<R extends Rows> = { -readonly [K in keyof R]: ValueOf<R[K]> };

export const FLAG: Values<boolean, 'flag'> = { kind: 'flag', placeholder: '', parse: () => true };
export const SWITCH: Values<boolean, 'switch'> = { kind: 'switch', placeholder: '', parse: () => true };

/** `check` throws a UsageError for a text that is not allowed. */
export function text(placeholder: string, check: (text: string, flag: string) => void = () => {}): Values<string, 'text'> {
  return {
    kind: 'text',
    placeholder,
    parse: (given, flag) => {
      check(given, flag);
      return given;
    },
  };
}

/** Several values after one flag. */
export function list<const C extends string = string>(placeholder: string, choices?: readonly C[]): Values<C[], 'list'> {
  const one = choices && choice(placeholder, choices);
  return { kind: 'list', placeholder, ...(choices ? { choices } : {}), parse: (given, flag) => [one ? one.parse(given, flag) : (given as C)] };
}

/** What joins the words of a flag of the kind "several"; no word of a command line has it. */
export const JOINT = '\0';

/** Several values after one flag. Where the flag is given again, the later one counts; a list would have the values of both. */
export function several(placeholder: string): Values<string[], 'several'> {
  return { kind: 'several', placeholder: `${placeholder}...`, parse: (given) => given.split(JOINT) };
}

/** A flag that may be given several times, with one value each. */
export function repeated<T>(placeholder: string, parse: (text: string, flag: string) => T): Values<T[], 'repeated'> {
  return { kind: 'repeated', placeholder, parse: (given, flag) => [parse(given, flag)] };
}

export function choice<const C extends string>(placeholder: string, choices: readonly C[], renamed?: Renamed): Values<C, 'choice'> {
  return {
    kind: 'choice',
    ...{ placeholder, choices },
    ...(renamed ? { renamed } : {}),
    parse(given, flag) {
      if (renamed && given in renamed.names) throw new UsageError(`the ${renamed.what} "${given}" is called "${renamed.names[given]}" now`);
      if (!choices.includes(given as C)) throw new UsageError(`${flag} takes ${named(choices)}, got "${given}"`);
      return given as C;
    },
  };
}

export const whole = (placeholder: string, range: Range): Values<number, 'whole'> => numeric('whole', placeholder, range);
export const number = (placeholder: string, range: Range): Values<number, 'number'> => numeric('number', placeholder, range);

function numeric<K extends 'whole' | 'number'>(kind: K, placeholder: string, range: Range): Values<number, K> {
  return {
    ...{ kind, placeholder, range },
    parse(given, flag) {
      const value = Number(given);
      const sound = given.trim() !== '' && Number.isFinite(value) && (kind === 'number' || Number.isInteger(value)) && isWithin(value, range);
      if (!sound) throw new UsageError(`${flag} takes a ${kind === 'whole' ? 'whole number' : 'number'} ${rangeText(range)}, got "${given}"`);
      return value;
    },
  };
}

function isWithin(value: number, { atLeast, above, atMost, below }: Range): boolean {
  return (
    (atLeast === undefined || value >= atLeast) &&
    (above === undefined || value > above) &&
    (atMost === undefined || value <= atMost) &&
    (below === undefined || value < below)
  );
}

function rangeText({ atLeast, above, atMost, below }: Range): string {
  const parts = [
    ...(atLeast === undefined ? [] : [`of at least ${atLeast}`]),
    ...(above === undefined ? [] : [`above ${above}`]),
    ...(atMost === undefined ? [] : [`at most ${atMost}`]),
    ...(below === undefined ? [] : [`below ${below}`]),
  ];
  return parts.join(' and ');
}

const named = (choices: readonly string[]) => choices.map((each, i) => (i === 0 ? each : `${i === choices.length - 1 ? ' or ' : ', '}${each}`)).join('');

/** `batchImages` → `--batch-images`; a switch that is off → `--no-…`. */
export function flagOf(name: string, value: unknown = undefined): string {
  return `--${value === false ? 'no-' : ''}${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

const isGiven = (value: unknown) => value !== undefined && value !== false;

/** The option belongs to another option. */
export const withOption = (name: string): Condition => ({ to: flagOf(name), holds: (values) => isGiven(values[name]) });

/** The option belongs to one value of another option. */
export const whenOption = (name: string, value: string): Condition => ({ to: `${flagOf(name)} ${value}`, holds: (values) => values[name] === value });

/** The option belongs to `to`, which is not used when the option `name` is given. */
export const withoutOption = (name: string, to: string): Condition => ({
  to,
  holds: (values) => !isGiven(values[name]),
});

/** The option belongs to values of at least `least` of another option. */
export const whenAtLeast = (name: string, least: number): Condition => ({
  to: `${flagOf(name)} of ${least} or more`,
  holds: (values) => Number(values[name]) >= least,
});

/** The text after the flag, in the refusal of an option whose condition does not hold. */
export function refusalOf({ to, why, refusal }: Condition): string {
  return refusal ?? `belongs to ${to}${why ? `: ${why}` : ''}`;
}

/** Throws a UsageError for the first given option that would have no effect. Nothing else decides about this. */
export function refuseWithoutEffect(rows: Rows, given: ReadonlySet<string>, values: Readonly<Record<string, unknown>>): void {
  for (const [name, { belongsTo = [] }] of Object.entries(rows)) {
    if (!given.has(name)) continue;
    const broken = belongsTo.find(({ holds }) => !holds(values));
    if (broken) throw new UsageError(`${flagOf(name, values[name])} ${refusalOf(broken)}`);
  }
}

/** The fixed defaults; a flag that is not given is false. */
export function fixedDefaults(rows: Rows): Record<string, unknown> {
  return Object.fromEntries(Object.entries(rows).map(([name, row]) => [name, row.values.kind === 'flag' ? false : row.default]));
}

/** Fills in the defaults that depend on other options. The first of the `deciding` values that a row has a default for counts. */
export function settled(rows: Rows, values: Readonly<Record<string, unknown>>, deciding: readonly string[]): Record<string, unknown> {
  const valueFor = (name: string, { defaults = {} }: Row) => {
    const decider = deciding.find((each) => each in defaults);
    return values[name] ?? (decider === undefined ? undefined : defaults[decider]);
  };
  return { ...values, ...Object.fromEntries(Object.entries(rows).map(([name, row]) => [name, valueFor(name, row)])) };
}

/** The text of the default in the help and the docs; '' if there is none. */
export function defaultText({ default: fixed, defaults, defaultNote }: Row): string {
  if (defaultNote !== undefined) return defaultNote;
  if (fixed !== undefined) return String(fixed);
  const texts = Object.entries(defaults ?? {}).map(([decider, value]) => `${decider} ${typeof value === 'boolean' ? (value ? 'yes' : 'no') : value}`);
  return texts.join(', ');
}

/** The same rows under a heading. */
export function grouped<const R extends Rows>(group: string, rows: R): R {
  return Object.fromEntries(Object.entries(rows).map(([name, row]) => [name, { ...row, group }])) as unknown as R;
}
