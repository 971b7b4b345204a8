/** The transformer in place of the recurrent layers: decoding with its cache, gradients, learning. */
import { test } from 'vitest';
import { decodesAsInFloat64, gradientsEqualDifferences, learnsByHeart } from './decoder_checks.ts';
import { TRANSFORMER } from './small_captioner.ts';
import { useGpu } from './support.ts';

useGpu();

test.each(['basic', 'recommended'] as const)('of preset %s: greedy and beam equal the float64 captioner, which keeps no cache', (preset) =>
  decodesAsInFloat64(preset, TRANSFORMER));

test('gradients of the whole loss equal finite differences', () => gradientsEqualDifferences(TRANSFORMER));

test('a transformer learns a few captions by heart', () => learnsByHeart(TRANSFORMER));
