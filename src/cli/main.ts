/** The command line: runs the command that was asked for, and says what went wrong with the exit code that belongs to it. */
import { CommanderError } from 'commander';
import { problemOf } from '../data/validation.ts';
import { GlimpseError, messageOf } from '../errors.ts';
import { VERSION } from '../platform/node/version.ts';
import { printableLines } from '../printable.ts';
import { runCommand } from './command.ts';
import { COMMANDS } from './commands.ts';

/**
 * What is printed may not arrive. A terminal that closed takes no messages, which must not end work that is being saved. A reader
 * of results may leave early (`| head`); a disk may be full.
 */
let unprinted: NodeJS.ErrnoException | null = null;
process.stderr.on('error', () => {});
process.stdout.on('error', (error) => {
  unprinted ??= error;
});

async function main(): Promise<number> {
  try {
    return await runCommand(COMMANDS, VERSION, process.argv.slice(2));
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

/** As a command would end that SIGPIPE ends. */
const READER_LEFT = 141;

function exitCode(code: number): number {
  const error = unprinted as NodeJS.ErrnoException | null;
  if (!error || code !== 0) return code;
  if (error.code === 'EPIPE') return READER_LEFT;
  process.stderr.write(`glimpse: the result could not be printed: ${messageOf(error)}\n`);
  return 1;
}

const code = await main();
// Dawn may still hold a handle; what was printed is flushed first.
process.stdout.write('', () => process.stderr.write('', () => process.exit(exitCode(code))));
