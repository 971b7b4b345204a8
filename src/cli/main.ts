/** The command line: runs the command that was asked for, and says what went wrong with the exit code that belongs to it. */
import { existsSync, readFileSync } from 'node:fs';
import { CommanderError } from 'commander';
import { problemOf } from '../data/validation.ts';
import { GlimpseError, messageOf } from '../errors.ts';
import { printableLines } from '../printable.ts';
import { runCommand } from './command.ts';
import { COMMANDS } from './commands.ts';

/** Two folders up from the sources, three from what was built of them. */
const PACKAGE = ['../../package.json', '../../../package.json'].map((path) => new URL(path, import.meta.url)).find((url) => existsSync(url)) as URL;
const { version } = JSON.parse(readFileSync(PACKAGE, 'utf8')) as { version: string };

async function main(): Promise<number> {
  try {
    return await runCommand(COMMANDS, version, process.argv.slice(2));
  } catch (error) {
    if (process.stderr.isTTY) process.stderr.write('\x1b[?25h'); // a progress bar may have hidden the cursor
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (error instanceof GlimpseError) {
      process.stderr.write(`glimpse: ${printableLines(error.message)}\n`);
      return error.exitCode;
    }
    // What the system refuses on a path is no fault of the program, wherever it was asked.
    const { code, path, syscall } = (error ?? {}) as { code?: unknown; path?: unknown; syscall?: unknown };
    if (typeof code === 'string' && typeof path === 'string' && syscall !== undefined) {
      process.stderr.write(`glimpse: ${printableLines(`${path}: ${problemOf(error)}`)}\n`);
      return 1;
    }
    process.stderr.write(`glimpse: unexpected failure: ${printableLines(`${messageOf(error)}\n${error instanceof Error ? error.stack : ''}`)}\n`);
    return 1;
  }
}

const code = await main();
// Dawn may still hold a handle; what was printed is flushed first.
process.stdout.write('', () => process.stderr.write('', () => process.exit(code)));
