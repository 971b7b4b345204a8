/** The self-test on goldens of the whole captioner. */
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { dataFolder, glimpse } from './support.ts';

const data = dataFolder('the captioner’s goldens');

describe.skipIf(!data)('the whole captioner against float64 goldens', () => {
  test.each(['captioner_small', 'captioner_ragged'])('%s', async (name) => {
    const { code, stdout, stderr } = await glimpse('selftest', '--golden', join(data as string, 'goldens', `${name}.safetensors`), '--json');
    expect(stderr).not.toMatch(/FAILED/);
    expect(code).toBe(0);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ failed: 0, skipped: 0 });
    const names = report.cases.map((c: { case: string }) => c.case);
    for (const needed of [
      'logits',
      'alpha',
      'loss_token_mean',
      'loss_seed_sum',
      'loss_seed_printed',
      'grad_token_mean.bv',
      'grad_seed_sum.emb',
      'adam1.out_w',
      'adam5.lstm2_u',
      'adam_losses_token_mean',
    ])
      expect(names).toContain(needed);
  });
});
