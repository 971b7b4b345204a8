/** The errors that every floor may throw. */
import { printable } from './printable.ts';

/**
 * Something that the user can act on: its message says what was expected, what came and where. The command line prints it without
 * a stack and exits with `exitCode`.
 */
export class GlimpseError extends Error {
  override name = 'GlimpseError';
  /** 1: the work failed; 2: the command was used wrongly. */
  readonly exitCode: 1 | 2 = 1;
}

/** The command, an option or an argument is wrong (exit code 2). */
export class UsageError extends GlimpseError {
  override name = 'UsageError';
  override readonly exitCode = 2;
}

/** A file from outside is missing, damaged or of another kind than expected. Always names the file. */
export class FileError extends GlimpseError {
  override name = 'FileError';
  constructor(
    readonly path: string,
    problem: string,
  ) {
    super(`${printable(path)}: ${problem}`);
  }
}

/** Shapes that do not fit an operation; the message carries all of them. */
export class ShapeError extends GlimpseError {
  override name = 'ShapeError';
}

/** Why the GPU failed. */
export type GpuErrorKind = 'no-adapter' | 'validation' | 'out-of-memory' | 'lost' | 'limit' | 'shader' | 'internal';

/** Every failure of the GPU layer. It names the operation and its operands, and says what to do next. */
export class GpuError extends GlimpseError {
  override name = 'GpuError';
  constructor(
    readonly kind: GpuErrorKind,
    readonly operation: string,
    problem: string,
    readonly advice = '',
  ) {
    super(`${operation}: ${problem}${advice ? `\n  ${advice}` : ''}`);
  }
}

/** The text of anything thrown. Some of Dawn's exceptions have an empty message; their class name stands in. */
export function messageOf(error: unknown): string {
  if (error && typeof error === 'object' && 'message' in error) return String(error.message) || error.constructor.name;
  return String(error);
}
