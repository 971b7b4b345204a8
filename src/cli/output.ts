/**
 * What commands say and where: results on stdout (JSON alone there), everything else on stderr. Names and words come from files,
 * so that no text reaches a terminal but through `printable`; JSON stays exact.
 */
import { SingleBar } from 'cli-progress';
import type { Counted } from '../counted.ts';
import { printable, printableLines } from '../printable.ts';

export interface CommonOptions {
  adapter?: string;
  json?: boolean;
  quiet?: boolean;
}

export function say(options: CommonOptions, text: string): void {
  // A second line begins with two blanks, as advice does; other line feeds come from names.
  if (!options.quiet)
    process.stderr.write(
      `${text
        .split(/\n(?= {2})/)
        .map(printable)
        .join('\n')}\n`,
    );
}

/** The result of a command: JSON with --json, else the text. In a list of lines, no name can break its line. */
export function result(options: CommonOptions, value: unknown, text: () => string | readonly string[]): void {
  const shown = () => {
    const told = text();
    return typeof told === 'string' ? printableLines(told) : told.map(printable).join('\n');
  };
  process.stdout.write(`${options.json ? JSON.stringify(value) : shown()}\n`);
}

/** Tells of files that were left out: how many, and why the first ones. */
export function sayLeftOut(options: CommonOptions, { count, examples }: Counted): void {
  if (count > 0) say(options, `left out: ${count} ${count === 1 ? 'file' : 'files'}: ${examples.join('; ')}${count > examples.length ? '; …' : ''}`);
}

export function duration(seconds: number): string {
  if (seconds < 100) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

export interface Progress {
  update(done: number, note?: string): void;
  stop(): void;
}

/** A bar with rate and time left on a terminal, a line every ten seconds elsewhere. */
export function progress(options: CommonOptions, label: string, total: number, unit: string): Progress {
  if (options.quiet) return { update: () => {}, stop: () => {} };
  const started = performance.now();
  let first: number | null = null;
  const status = (done: number, note: string) => {
    first ??= done;
    const seconds = (performance.now() - started) / 1000;
    const rate = (done - first) / seconds;
    const left = rate > 0 ? duration((total - done) / rate) : '…';
    return `${rate.toFixed(1)} ${unit}/s, ${left} left${note ? `, ${printable(note)}` : ''}`;
  };
  if (process.stderr.isTTY) {
    const bar = new SingleBar({ format: `${label} {bar} {value}/{total}  {status}`, stream: process.stderr, hideCursor: true });
    bar.start(total, 0, { status: '' });
    return { update: (done, note = '') => bar.update(done, { status: status(done, note) }), stop: () => bar.stop() };
  }
  let last = 0;
  return {
    update: (done, note = '') => {
      const text = status(done, note);
      if (performance.now() - last < 10_000 && done < total) return;
      last = performance.now();
      process.stderr.write(`${label} ${done}/${total}  ${text}\n`);
    },
    stop: () => {},
  };
}
