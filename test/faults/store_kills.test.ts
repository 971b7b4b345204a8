/** Feature stores whose writer is killed after any call that changes a file: run again, the command gives what it gives unbroken, byte for byte. */
import { cpSync, existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FeatureStore } from '../../src/data/feature_store.ts';
import { captionerRun } from '../captioner_run.ts';
import { glimpse, temporaryFolder } from '../support.ts';
import { callsOf, glimpseWith } from './faulty_process.ts';
import { counted, isWhole, randomFor, trial, whole } from './trials.ts';

const folder = temporaryFolder();
const made = captionerRun(folder);
const at = (name: string) => join(folder, name);

const filesOf = (path: string) => Object.fromEntries(readdirSync(path).map((name) => [name, readFileSync(join(path, name)).toString('hex')]));

async function features(...rest: string[]): Promise<string[]> {
  const { data, encoder } = await made.features();
  return ['features', '--data', data, '--encoder', encoder, '--preprocess', 'imagenet', '--skip-bad', '--batch', '4', '--quiet', ...rest];
}

/** A whole run tries every call. */
const TIMEOUT = isWhole ? 3_600_000 : undefined;

/** What a killed writer leaves where there was nothing before. */
const NEW = { before: async () => null, during: /not finished; run `glimpse features` again|no such folder/ };

interface Kind {
  command(out: string): Promise<string[]>;
  /** A store that is there before, and stays until the larger one is whole; null if there is none. */
  before(): Promise<string | null>;
  during: RegExp;
}

const KINDS: Record<string, Kind> = {
  features: { ...NEW, command: (out) => features('--precision', 'f16', '--out', out) },
  'merge of two shards': {
    ...NEW,
    async command(out) {
      const shards = ['1/2', '2/2'].map((shard) => ({ shard, path: at(`shard ${shard[0]}`) }));
      for (const { shard, path } of shards) if (!existsSync(path)) expect((await glimpse(...(await features('--shard', shard, '--out', path)))).code).toBe(0);
      return ['merge', out, ...shards.map(({ path }) => path), '--quiet'];
    },
  },
  'features that join a finished store': {
    command: (out) => features('--out', out),
    async before() {
      const path = at('few');
      if (!existsSync(path)) expect((await glimpse(...(await features('--limit', '2', '--out', path)))).code).toBe(0);
      return path;
    },
    during: /^(?!)/,
  },
};

test.each(Object.entries(KINDS))(
  '%s',
  async (name, { command, before, during }) => {
    const record = counted('killed while a store is written (SIGKILL)', name);
    const random = randomFor(`store kills, ${name}`);
    const old = await before();
    const fresh = (title: string) => {
      const out = at(`${name} ${title}`);
      rmSync(out, { recursive: true, force: true });
      if (old) cpSync(old, out, { recursive: true });
      return out;
    };
    const right = fresh('unbroken');
    const calls = await callsOf(await command(right), folder);
    const kills = isWhole ? Array.from({ length: calls }, (_, i) => i + 1) : [whole(random, 1, calls / 2), whole(random, calls / 2, calls + 1)];
    for (const kill of kills)
      await trial(record, async () => {
        const out = fresh('killed');
        expect((await glimpseWith(`kill:${kill}`, await command(out))).code, `kill ${kill} of ${calls}`).toBe(null);
        const opened = await FeatureStore.open(out).catch((error: Error) => error);
        if (opened instanceof FeatureStore) {
          const files = [...opened.files()];
          expect(files.length).toBeGreaterThan(0);
          for (const file of files) await opened.readBytes(file);
          await opened.close();
        } else expect(opened.message, `kill ${kill} of ${calls}`).toMatch(during);
        const { code, stderr } = await glimpse(...(await command(out)));
        expect([code, stderr]).toEqual([0, expect.any(String)]);
        expect(filesOf(out), `kill ${kill} of ${calls}`).toEqual(filesOf(right));
      });
  },
  TIMEOUT,
);
