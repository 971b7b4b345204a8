/** The order of test files: the longest first, so that no long one begins last and leaves a worker without work. */
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Files of more than half a minute, longest first. Vitest knows what the others took, or takes the larger first. */
const LONG = [
  ...['site/test/engine', 'test/world', 'test/bench_files', 'site/test/caption', 'test/numerics', 'test/exercises', 'test/bench', 'test/user_kernels'],
  ...['site/test/kernels', 'test/cli_resume', 'test/cli_export', 'test/faults/kills', 'test/browser', 'test/trace', 'test/cli_captioning'],
  ...['test/cli_language_model', 'test/profile', 'test/cli_training', 'test/ops', 'test/cli_self_critical', 'test/cli_shards', 'test/package'],
].map((name) => `/${name}.test.ts`);

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const placeOf = ({ moduleId }: TestSpecification) => LONG.findIndex((name) => moduleId.endsWith(name));
    const sorted = await super.sort(files);
    const long = sorted.filter((file) => placeOf(file) >= 0).sort((a, b) => placeOf(a) - placeOf(b));
    return [...long, ...sorted.filter((file) => placeOf(file) < 0)];
  }
}
