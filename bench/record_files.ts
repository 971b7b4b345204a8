/** Reports of benchmarks as files, and the machine that this process runs on. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus, release, type } from 'node:os';
import { problemOf } from '../src/data/validation.ts';
import { FileError } from '../src/errors.ts';
import { PACKAGE, VERSION } from '../src/platform/node/version.ts';
import { parseReport, type Report, type ReportHost } from './record.ts';

function commitHere(): string | null {
  const git = (...args: string[]) => execFileSync('git', args, { cwd: PACKAGE, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    const commit = git('rev-parse', '--short=12', 'HEAD');
    return git('status', '--porcelain', '--untracked-files=no') === '' ? commit : `${commit}+`;
  } catch {
    return null; // an installed package, or no git
  }
}

function versionOf(path: string): string {
  return (JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version;
}

/** This machine and what runs on it. */
export function hostHere(): ReportHost {
  const processors = cpus();
  return {
    commit: commitHere(),
    version: VERSION,
    node: process.version,
    dawn: versionOf(createRequire(import.meta.url).resolve('webgpu/package.json')),
    cpu: processors[0]?.model.trim() ?? 'unknown',
    cores: processors.length,
    os: `${type()} ${release()}`,
  };
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new FileError(path, problemOf(error));
  }
}

/** Reads what `glimpse bench --json` wrote. Throws a FileError that names the first wrong field. */
export function readReport(path: string): Report {
  return parseReport(path, read(path), '');
}

/** Reads what `--append` gathered, oldest first: a run per line. */
export function readHistory(path: string): Report[] {
  const lines = read(path).split('\n');
  const reports = lines.flatMap((line, i) => (line.trim() === '' ? [] : [parseReport(path, line, `line ${i + 1} `)]));
  if (reports.length === 0) throw new FileError(path, 'holds no run; gather some with `glimpse bench --append`');
  return reports.sort((a, b) => a.date.localeCompare(b.date));
}
