/** Options: each belongs to something, arrives under its own name, and has one default; `--help` loads nothing heavy. */
import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { OPTIONS_PAGE, withTable } from '../scripts/options_table.ts';
import { type Declaration, runCommand } from '../src/cli/command.ts';
import { decodingOptions } from '../src/cli/commands/decoding_options.ts';
import { COMMANDS } from '../src/cli/commands.ts';
import { checkDecoding, type DecodingOptions, decodingOf } from '../src/cli/decoding.ts';
import { UsageError } from '../src/errors.ts';
import { LENGTH_PENALTIES, WU_ALPHA } from '../src/kernels/beam.ts';
import type { TrainingConfig } from '../src/model/training/checkpoint.ts';
import { modelOptions, PRESETS, settledOptions, TRAINING_OPTIONS, type TrainingOptions } from '../src/model/training/options.ts';
import { fixedDefaults, flagOf, type Row, refusalOf } from '../src/options.ts';
import { glimpse, temporaryFolder } from './support.ts';

const folder = temporaryFolder();
const commandOf = (name: string) => COMMANDS.find((each) => each.name === name) as Declaration;

/** Runs a command line whose commands do nothing but tell what they got: their options, or the message that refused them. */
async function parsed(args: readonly string[]): Promise<{ options: Record<string, unknown> } | { refused: string }> {
  let options: Record<string, unknown> = {};
  const silent = COMMANDS.map((declaration) => ({
    ...declaration,
    run: async () => async (given: Record<string, unknown>) => {
      options = given;
      return 0;
    },
  }));
  try {
    await runCommand(silent as readonly Declaration[], '0', args);
    return { options };
  } catch (error) {
    if (error instanceof UsageError) return { refused: error.message };
    throw error;
  }
}

/** What an option may be given as: its flag and a value. */
function sample(name: string, { values: { kind, choices, parse } }: Row): string[] {
  if (kind === 'flag' || kind === 'switch') return [flagOf(name)];
  const fits = (text: string) => {
    try {
      parse(text, '');
      return true;
    } catch {
      return false;
    }
  };
  return [flagOf(name), [...(choices ?? []), '1', '1/2', '0.5', '3', '64', 'utf-8', 'image=photo', 'matmul=none.wgsl', 'N=4'].find(fits) as string];
}

/** A command with all that it cannot be without. */
function least({ name, arguments: args = {}, options }: Declaration): string[] {
  const required = Object.entries(options).flatMap(([option, row]) => (row.required ? [flagOf(option), row.values.choices?.[0] ?? 'none'] : []));
  const needed = Object.keys(args).flatMap((argument) => (argument.startsWith('<') ? ['none'] : []));
  return [...name.split(' '), ...needed, ...required];
}

const NEAR = ['--beam', '4', '--neighbors', 'none'];

/** What else stands on the command line, so that every condition holds in one of these and is broken in one. */
const CONTEXTS: Record<string, string[][]> = {
  selftest: [[], ['--golden', 'none'], ['--shader', 'matmul=none.wgsl']],
  prepare: [
    ['--flickr', 'none'],
    ['--table', 'none'],
    ['--karpathy', 'none', '--fraction', '0.5'],
    ['--table', 'none', '--words', 'byte-pairs'],
    ['--shards', 'none'],
  ],
  features: [
    ['--encoder', 'none'],
    ['--encoder', 'none', '--feature', 'none'],
    ['--model', 'none'],
  ],
  train: [
    ...[[], ['--preset', 'basic'], ['--validation', '0']],
    ...[
      ['--decoder', 'transformer'],
      ['--decoder', 'up-down'],
      ['--decoder', 'gpt2'],
    ],
    ...[
      ['--start', 'none'],
      ['--objective', 'scst', '--start', 'none'],
    ],
    ['--fine-tune', 'layer4'],
    ['--word-vectors', 'none'],
    ['--accumulate', '4'],
    ['--patience', '0'],
  ],
  profile: [[], ['none.jpg']],
  exercise: [[], ['--all'], ['1', '--show']],
  trace: [[], ['--golden', 'none']],
  serve: [[], ['--beam', '4'], ['--beam', '4', '--groups', '2'], NEAR],
  caption: [[], ['--sample'], ['--beam', '4'], ['--beam', '4', '--groups', '2'], NEAR],
  gallery: [
    ...[[], ['none.jpg'], ['none.jpg', '--references', 'none'], ['--beam', '1']],
    ...[
      ['--features', 'none'],
      ['--data', 'none'],
    ],
    ['--beam', '4', '--groups', '2'],
    NEAR,
  ],
  bench: [
    [],
    ['matmul'],
    ['matmul', '--shape', '2x3x4'],
    ['--shader', 'matmul=none.wgsl'],
    ['resnet50'],
    ['first-caption'],
    ['--picture', 'none'],
    ['--run', 'none'],
  ],
  eval: [[], ['--beam', '1'], ['--beam', '4', '--groups', '2'], NEAR],
  export: [[], ['--format', 'safetensors']],
  'onnx inspect': [[], ['--structure']],
};

const conditions = COMMANDS.flatMap((declaration) =>
  Object.entries(declaration.options).flatMap(([option, row]) =>
    (row.belongsTo ?? []).map((condition) => [declaration.name, option, refusalOf(condition)] as const),
  ),
);

describe('an option without effect is refused', () => {
  test('conditions are declared in fourteen commands', () => {
    expect(new Set(conditions.map(([name]) => name))).toEqual(new Set(Object.keys(CONTEXTS)));
    expect(conditions.length).toBeGreaterThan(70);
  });

  test.each(conditions)('%s: %s %s', async (name, option, refusal) => {
    const declaration = commandOf(name);
    const own = sample(option, declaration.options[option]);
    const contexts = CONTEXTS[name].filter((context) => !context.includes(own[0]));
    const outcomes = await Promise.all(contexts.map((context) => parsed([...least(declaration), ...context, ...own])));
    const messages = outcomes.map((outcome) => ('refused' in outcome ? outcome.refused : ''));
    expect(messages).toContain(`${own[0]} ${refusal}`);
    expect(messages).toContain(''); // and where it has an effect it is taken
  });

  test('before any file is opened, with exit 2 and no result', async () => {
    const missing = ['train', '--data', 'none.json', '--features', 'none', '--out', 'none'];
    for (const option of [['--samples', '9'], ['--encoder', 'none.onnx'], ['--normalize-advantage']]) {
      const outcome = await glimpse(...missing, ...option);
      expect(outcome).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining(`glimpse: ${option[0]} belongs to --`) });
    }
    expect(await glimpse('gallery', 'none', 'none.jpg', '--split', 'val')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--split belongs to --data'),
    });
    expect(await glimpse('plot', 'none', '--adapter', 'lavapipe')).toMatchObject({ code: 2, stderr: expect.stringContaining("unknown option '--adapter'") });
  });

  test('a switch is refused by the side that was given', async () => {
    expect(await parsed([...least(commandOf('train')), '--start', 'none', '--no-gate'])).toMatchObject({ refused: expect.stringMatching(/^--no-gate builds/) });
    expect(await parsed([...least(commandOf('train')), '--decoder', 'transformer', '--no-gate'])).toMatchObject({
      refused: expect.stringMatching(/^--no-gate/),
    });
  });

  test('plateau brings a patience, without which it cannot halve the rate', async () => {
    const plateau = [...least(commandOf('train')), '--schedule', 'plateau'];
    expect(await parsed([...plateau, '--patience', '0'])).toMatchObject({ refused: expect.stringContaining('--patience') });
    for (const own of [
      ['--preset', 'basic', '--patience', '3'],
      ['--preset', 'recommended'],
      ['--start', 'none'],
    ])
      expect(await parsed([...plateau, ...own])).toHaveProperty('options');
  });
});

describe('an option arrives under its own name', () => {
  const options = COMMANDS.flatMap((declaration) => Object.keys(declaration.options).map((option) => [declaration.name, option] as const));
  test.each(options)('%s: %s', async (name, option) => {
    const declaration = commandOf(name);
    const row = declaration.options[option];
    const own = sample(option, row);
    const base = row.required ? least(declaration).filter((each, i, all) => each !== own[0] && all[i - 1] !== own[0]) : least(declaration);
    const outcomes = await Promise.all((CONTEXTS[name] ?? [[]]).map((context) => parsed([...base, ...context, ...own])));
    const taken = outcomes.find((outcome) => 'options' in outcome);
    expect(taken).toMatchObject({ options: { [option]: own.length > 1 ? row.values.parse(own[1], '') : true } });
  });

  test('stores of features are several words; a later flag takes the place of an earlier one', async () => {
    const train = ['train', '--data', 'none.json', '--out', 'none'];
    expect(await parsed([...train, '--features', 'a', 'b', '--quiet'])).toMatchObject({ options: { features: ['a', 'b'], quiet: true } });
    expect(await parsed([...train, '--features', 'a', 'b', '--features', 'c'])).toMatchObject({ options: { features: ['c'] } });
    const stores = ['--data', 'none.json', '--features', 'a', 'b'];
    expect(await parsed(['eval', 'run', ...stores])).toMatchObject({ options: { features: ['a', 'b'] } });
    expect(await parsed(['eval', ...stores])).toMatchObject({ options: { features: ['a'] } }); // where no model stands before, it may come behind
  });

  test('several values make a list, and a switch can be off', async () => {
    expect(await parsed(['selftest', '--op', 'add', 'softmax', '--op', 'mul'])).toMatchObject({ options: { op: ['add', 'softmax', 'mul'] } });
    expect(await parsed([...least(commandOf('train')), '--no-learned-start'])).toMatchObject({ options: { learnedStart: false, gate: undefined } });
  });

  test.each([
    [['caption', 'm', 'p', '--beam', '11'], '--beam takes a whole number of at least 1 and at most 10, got "11"'],
    [['caption', 'm', 'p', '--sample', '--top-p', '0'], '--top-p takes a number above 0 and at most 1, got "0"'],
    [['score', '--bootstrap', '2.5'], '--bootstrap takes a whole number of at least 0, got "2.5"'],
    [['onnx', 'check', 'x', '--rtol', 'some'], '--rtol takes a number of at least 0, got "some"'],
    [['eval', 'm', '--split', 'dev'], '--split takes train, val or test, got "dev"'],
    [['features', '--split', 'train', 'dev'], '--split takes train, val or test, got "dev"'],
    [['features', '--shard', '3/2'], '--shard is a number of a count, as 2/5; got "3/2"'],
  ])('%j is refused', async (args, refused) => {
    expect(await parsed(args)).toEqual({ refused });
  });

  test.each([
    [['train', '--preset', 'seed'], 'the preset "seed" is called "basic" now'],
    [['train', '--decoder', 'seed'], 'the decoder "seed" is called "stacked" now'],
    [['prepare', '--words', 'seed'], 'the word rule "seed" is called "ascii" now'],
  ])('%j tells the name of today', async (args, refused) => {
    expect(await parsed(args)).toEqual({ refused });
    const outcome = await glimpse(...args);
    expect(outcome).toMatchObject({ code: 2, stdout: '', stderr: `glimpse: ${refused}\n` });
  });
});

describe('defaults', () => {
  const given = (own: Record<string, unknown> = {}) => ({ ...fixedDefaults(TRAINING_OPTIONS), ...own }) as TrainingOptions;
  const plain = {
    ...{ decoder: 'stacked', cell: 'lstm', score: 'tanh', query: 'h2', attention: 'soft', contextToOutput: false },
    ...{ layers: 2, heads: 8, pictureAs: 'cross-attention', labelSmoothing: 0, scheduledSampling: 0, attentionPenalty: 0, initialization: 'glorot' },
  };

  test('of the presets', () => {
    expect(PRESETS).toEqual({
      basic: { ...plain, dropout: 0, gate: false, learnedStart: false },
      recommended: { ...plain, dropout: 0.5, labelSmoothing: 0.1, gate: true, learnedStart: true, initialization: 'scaled' },
    });
  });

  test.each([
    ['basic', {}, { epochs: 10, rate: 1e-3, maxNorm: 0, batchImages: 64, captions: 1, patience: 0, warmup: 0, schedule: 'constant' }],
    ['recommended', {}, { epochs: 8, rate: 2e-3, maxNorm: 5, batchImages: 64, captions: 1, patience: 0, warmup: 100, schedule: 'cosine' }],
    ['recommended', { decoder: 'transformer' }, { rate: 4e-4, schedule: 'cosine' }],
    ['recommended', { fineTune: ['layer4'] }, { batchImages: 16, captions: 5 }],
    ['recommended', { schedule: 'plateau' }, { patience: 2 }],
    ['basic', { objective: 'scst', start: 'x' }, { epochs: 5, rate: 1e-4, maxNorm: 5, batchImages: 64, patience: 0, schedule: 'constant' }],
    ['recommended', { rate: 0.01, epochs: 5 }, { epochs: 5, rate: 0.01, patience: 0, seed: 42 }],
  ] as const)('of training: %s %j', (preset, own, expected) => {
    expect(settledOptions(given(own), preset)).toMatchObject(expected);
  });

  test('of a transformer, of a model that is started from, and of self-critical training', () => {
    const transformer = { gate: false, learnedStart: false, dropout: 0.1, decoder: 'transformer' };
    expect(modelOptions(given({ decoder: 'transformer' }), 'recommended', null)).toEqual({ ...plain, ...transformer });
    expect(modelOptions(given({ decoder: 'gpt2', pictureAs: 'prefix' }), 'recommended', null)).toEqual({
      ...plain,
      ...transformer,
      decoder: 'gpt2',
      pictureAs: 'prefix',
    });
    expect(settledOptions(given({ decoder: 'gpt2' }), 'recommended')).toMatchObject({ languageRate: 2e-5 });
    expect(settledOptions(given(), 'recommended').languageRate).toBeUndefined();
    expect(modelOptions(given({ decoder: 'transformer', dropout: 0.2 }), 'basic', null)).toEqual({ ...plain, ...transformer, dropout: 0.2 });
    const start = { ...PRESETS.recommended, decoder: 'up-down', dropout: 0.3, labelSmoothing: 0.1 } as const;
    const going = given({ start: 'x' });
    expect(modelOptions(going, 'recommended', start)).toEqual(start);
    expect(modelOptions({ ...going, dropout: 0 }, 'recommended', start)).toEqual({ ...start, dropout: 0 });
    expect(modelOptions({ ...going, objective: 'scst' }, 'recommended', start)).toEqual({ ...start, dropout: 0, attentionPenalty: 0, labelSmoothing: 0 });
    expect(modelOptions({ ...going, objective: 'scst', dropout: 0.1 }, 'recommended', start)).toMatchObject({ dropout: 0.1, attentionPenalty: 0 });
  });

  test('of decoding, and all of them reach the decoder', () => {
    const o = { ...fixedDefaults(decodingOptions(3)), ...{ minLength: 4, noRepeat: 2, groups: 3, consensus: true, penalty: 'wu' } } as DecodingOptions;
    const config = { preset: 'recommended', maxLength: 20 } as TrainingConfig;
    expect(decodingOf(o, config)).toEqual({
      beam: { width: 3, penalty: 'wu', alpha: WU_ALPHA, groups: 3, diversity: 0.5, consensus: true, minLength: 4, noRepeat: 2, suppress: true },
      maxLength: 19,
      samples: 40,
    });
    expect(decodingOf({ ...o, maxLength: 9 }, { ...config, preset: 'basic' })).toMatchObject({ beam: { suppress: false }, maxLength: 9 });
    expect(() => decodingOf({ ...o, maxLength: 3 }, config)).toThrow(/--min-length 4 is more than the longest caption may have: 3 words/);
    expect(() => checkDecoding({ ...o, beam: 4 })).toThrow(/--groups 3 does not divide --beam 4/);
  });

  test('the length penalties are those of the kernel', () => {
    expect(decodingOptions(1).penalty.values.choices).toEqual(LENGTH_PENALTIES);
  });
});

describe('starting is quick', () => {
  const SOURCE = resolve(import.meta.dirname, '../src');
  const packages = new Set<string>();
  const files = new Set<string>();
  const walk = (path: string) => {
    if (files.has(path)) return;
    files.add(path);
    for (const [, type, target] of readFileSync(path, 'utf8').matchAll(/^(?:import|export) (type )?[^;]*?from '([^']+)';/gms)) {
      if (type) continue;
      if (target.startsWith('.')) walk(resolve(dirname(path), target));
      else if (!target.startsWith('node:')) packages.add(target);
    }
  };
  walk(join(SOURCE, 'cli/main.ts'));

  test('the declarations of all commands load one package and no part of the engine', () => {
    expect(files.size).toBeGreaterThan(COMMANDS.length);
    expect([...packages]).toEqual(['commander']);
    const rooms = new Set([...files].map((path) => dirname(relative(SOURCE, path))));
    expect([...rooms].sort()).toEqual(['.', 'cli', 'cli/commands', 'data', 'metrics', 'model/training', 'platform/node']);
    expect([...files].filter((path) => /platform\/node/.test(path)).map((path) => basename(path))).toEqual(['version.ts']);
    for (const path of files) expect(path, 'no work is loaded before it is asked for').not.toMatch(/trainer|checkpoint|session/);
  });
});

test('the version is that of package.json', async () => {
  const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '../package.json'), 'utf8'));
  expect((await glimpse('--version')).stdout.trim()).toBe(version);
});

test('a command leaves nothing behind when it is refused', async () => {
  const out = join(folder, 'run');
  await glimpse('train', '--data', 'none.json', '--features', 'none', '--out', out, '--mix', '0.5');
  expect(existsSync(out)).toBe(false);
});

test('the table of training options in the docs is that of the schema', () => {
  const page = readFileSync(OPTIONS_PAGE, 'utf8');
  expect(page, 'run `npx tsx scripts/options_table.ts`').toBe(withTable(page));
  for (const name of Object.keys(TRAINING_OPTIONS)) expect(page).toContain(`| \`${flagOf(name)}`);
});
