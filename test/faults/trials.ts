/**
 * Trials of faults: how many are made, from which seed, and what is written down of them. `npm test` makes a few, always the same;
 * `npm run test:faults` makes all, from a seed that it prints, and writes docs/reliability.md from what this file records.
 */
import { appendFileSync } from 'node:fs';
import { onTestFinished } from 'vitest';
import { Random } from '../../src/random.ts';

/** Where the records go; empty in a short run. */
const RECORDS = process.env.GLIMPSE_FAULTS_RECORDS ?? '';

export const isWhole = RECORDS !== '';

/** How many trials to make. */
export const trials = (few: number, all: number): number => (isWhole ? all : few);

export const SEED = Number(process.env.GLIMPSE_FAULTS_SEED ?? 1);

/** Random numbers for one kind of fault. The seed is printed, so that a failure can be repeated with GLIMPSE_FAULTS_SEED. */
export function randomFor(kind: string): Random {
  console.log(`${kind}: seed ${SEED}`);
  return new Random(SEED, kind);
}

/** A whole number from `least` to below `end`. */
export const whole = (random: Random, least: number, end: number): number => least + Math.floor(random.uniform(0, 1) * (end - least));

/** One row of the table in docs/reliability.md. */
export interface TrialRecord {
  fault: string;
  what: string;
  tries: number;
  failures: number;
}

/** Counts the trials of one row, and writes the row down when the test is done. To be called in a test. */
export function counted(fault: string, what: string): TrialRecord {
  const record: TrialRecord = { fault, what, tries: 0, failures: 0 };
  onTestFinished(() => {
    if (isWhole) appendFileSync(RECORDS, `${JSON.stringify(record)}\n`);
  });
  return record;
}

/** Makes one trial: it counts as failed if it throws. */
export async function trial(record: TrialRecord, work: () => unknown): Promise<void> {
  record.tries++;
  record.failures++;
  await work();
  record.failures--;
}
