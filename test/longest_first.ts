/** The order of test files: the longest first, so that no long one begins last and leaves a worker without work. */
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Files of more than half a minute, longest first. Vitest knows what the others took, or takes the larger first. */
const LONG = [
  ...['site/test/engine', 'test/exercises', 'test/user_kernels', 'test/bench_files', 'site/test/caption', 'test/numerics', 'test/bench'],
  ...['test/cli_export', 'test/cli_resume', 'test/faults/kills', 'test/trace', 'test/cli_training', 'test/cli_captioning', 'test/package', 'test/profile'],
].map((name) => `/${name}.test.ts`);

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const placeOf = ({ moduleId }: TestSpecification) => LONG.findIndex((name) => moduleId.endsWith(name));
    const sorted = await super.sort(files);
    const long = sorted.filter((file) => placeOf(file) >= 0).sort((a, b) => placeOf(a) - placeOf(b));
    return [...long, ...sorted.filter((file) => placeOf(file) < 0)];
  }
}
