/**
 * What a data set costs to keep, to encode and to train on: `npx tsx scripts/scale_budget.ts --pictures 118287,100e6`. Every rate and
 * price is an input with a name, so that anyone can put in their own. Several values of an input, with commas between, make columns.
 */
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

/** Name, value unless given, and what it is. docs/scale.md says where the values come from. */
const INPUTS = [
  ['pictures', 118_287, 'pictures to train on; the default is the 118,287 of COCO 2017'],
  ['captions', 5, 'captions a picture'],
  ['tokens-per-caption', 11.8, 'words and the end token'],
  ['bytes-per-picture', 163_000, 'bytes of one picture file'],
  ['bytes-per-caption', 113, 'bytes of one caption in a dataset file: its text and its word ids'],
  ['regions', 49, 'regions a picture'],
  ['width', 2048, 'numbers a region'],
  ['bytes-per-number', 2, '2 with --precision f16, 4 with f32'],
  ['epochs', 10, 'epochs of training'],
  ['parameters', 9.5e6, 'parameters of the model; those of recommended with 5,000 words'],
  ['bytes-per-gradient', 4, '4, or 2 with --gradient-precision bf16'],
  ['captions-per-micro-batch', 80, '--batch-images times --captions'],
  ['processors', 1, 'GPUs, or CPU machines, that work at the same time'],
  ['pictures-per-second', 5, 'pictures that one of them encodes in a second'],
  ['tokens-per-second', 640, 'tokens that one of them trains on in a second'],
  ['efficiency', 1, 'tokens/s of all together, as a share of one alone times their number'],
  ['price-per-hour', 0.0832, 'money for one of them for an hour'],
  ['price-per-gb-month', 0.023, 'money to keep 10⁹ bytes for a month'],
  ['months', 1, 'months that pictures and features are kept'],
  ['price-per-gb-out', 0.09, 'money to carry 10⁹ bytes out of the cloud'],
] as const;

type Input = (typeof INPUTS)[number][0];
export type Inputs = Readonly<Record<Input, number>>;

export const DEFAULTS = Object.fromEntries(INPUTS.map(([name, value]) => [name, value])) as Inputs;

const featureBytes = (i: Inputs) => i.regions * i.width * i['bytes-per-number'];
const encodingHours = (i: Inputs) => i.pictures / i['pictures-per-second'] / 3600;
const pictureTokens = (i: Inputs) => i.captions * i['tokens-per-caption'];
const hoursAlone = (i: Inputs) => (i.pictures * pictureTokens(i) * i.epochs) / i['tokens-per-second'] / 3600;
const tokenRate = (i: Inputs) => i.processors * i.efficiency * i['tokens-per-second'];

/** In a second, of each processor; an update has one micro-batch of each, whose gradient travels once, as does the sum. */
function exchangedBytes(i: Inputs): number {
  const perSecond = tokenRate(i) / i.processors / (i['captions-per-micro-batch'] * i['tokens-per-caption']);
  return 2 * (1 - 1 / i.processors) * i.parameters * i['bytes-per-gradient'] * perSecond;
}

/** Name, unit, and formula of each result. */
export const RESULTS: readonly (readonly [string, string, (i: Inputs) => number])[] = [
  ['pictures, stored', 'GB', (i) => (i.pictures * i['bytes-per-picture']) / 1e9],
  ['captions, stored', 'GB', (i) => (i.pictures * i.captions * i['bytes-per-caption']) / 1e9],
  ['features of one picture', 'bytes', featureBytes],
  ['features, stored', 'GB', (i) => (i.pictures * featureBytes(i)) / 1e9],
  ['tokens of an epoch', '10⁶', (i) => (i.pictures * pictureTokens(i)) / 1e6],
  ['encoding, one alone', 'hours', encodingHours],
  ['encoding, all', 'hours', (i) => encodingHours(i) / i.processors],
  ['training, one alone', 'hours', hoursAlone],
  ['training, all', 'hours', (i) => hoursAlone(i) / i.processors / i.efficiency],
  ['pictures read to encode, all', 'MB/s', (i) => (i.processors * i['pictures-per-second'] * i['bytes-per-picture']) / 1e6],
  ['features written, all', 'MB/s', (i) => (i.processors * i['pictures-per-second'] * featureBytes(i)) / 1e6],
  ['features read to train, all', 'MB/s', (i) => ((tokenRate(i) / pictureTokens(i)) * featureBytes(i)) / 1e6],
  ['gradients sent, each', 'MB/s', (i) => exchangedBytes(i) / 1e6],
  ['encoding', 'money', (i) => encodingHours(i) * i['price-per-hour']],
  ['training', 'money', (i) => (hoursAlone(i) / i.efficiency) * i['price-per-hour']],
  ['pictures and features kept', 'money', (i) => ((i.pictures * (i['bytes-per-picture'] + featureBytes(i))) / 1e9) * i['price-per-gb-month'] * i.months],
  ['features carried out once', 'money', (i) => ((i.pictures * featureBytes(i)) / 1e9) * i['price-per-gb-out']],
];

/** The inputs of each column. Throws an Error if a value is no positive number, or the numbers of values differ. */
export function columnsOf(given: Readonly<Partial<Record<Input, string>>>): Inputs[] {
  const lists = INPUTS.map(([name, value]) => [name, given[name]?.split(',').map(Number) ?? [value]] as const);
  for (const [name, list] of lists) if (!list.every((each) => each > 0 && each < Infinity)) throw new Error(`--${name}: expected positive numbers`);
  const count = Math.max(...lists.map(([, list]) => list.length));
  for (const [name, { length }] of lists) if (length !== 1 && length !== count) throw new Error(`--${name}: expected 1 value or ${count}, got ${length}`);
  return Array.from({ length: count }, (_, at) => Object.fromEntries(lists.map(([name, list]) => [name, list[at % list.length]])) as Inputs);
}

/** Three digits, or all of a whole number. */
const rounded = (value: number) => value.toLocaleString('en-US', value >= 100 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 3 });

/** A Markdown table of the inputs that are not as they were, and of what follows from all. */
export function table(columns: readonly Inputs[]): string {
  const row = (name: string, unit: string, cells: readonly string[]) => `| ${[name, unit, ...cells].join(' | ')} |`;
  const other = INPUTS.filter(([name, value]) => columns.some((inputs) => inputs[name] !== value));
  return [
    `| | |${' |'.repeat(columns.length)}`,
    `|---|---|${'--:|'.repeat(columns.length)}`,
    ...other.map(([name]) =>
      row(
        `\`--${name}\``,
        '',
        columns.map((inputs) => inputs[name].toLocaleString('en-US', { maximumFractionDigits: 6 })),
      ),
    ),
    ...RESULTS.map(([name, unit, value]) =>
      row(
        `**${name}**`,
        unit,
        columns.map((inputs) => rounded(value(inputs))),
      ),
    ),
  ].join('\n');
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    const options = Object.fromEntries([...INPUTS.map(([name]) => [name, { type: 'string' }] as const), ['help', { type: 'boolean' }] as const]);
    const { help, ...given } = parseArgs({ options }).values as Partial<Record<Input, string>> & { help?: boolean };
    const inputs = () => INPUTS.map(([name, value, what]) => `  --${name.padEnd(25)} ${what} (default: ${value})`).join('\n');
    console.log(help ? `npx tsx scripts/scale_budget.ts, with any of\n${inputs()}` : table(columnsOf(given)));
  } catch (error) {
    console.error(`scale_budget: ${(error as Error).message}`);
    process.exitCode = 2;
  }
}
