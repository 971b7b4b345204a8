/** Capture and replay. */
import { expect, test } from 'vitest';
import * as ops from '../src/autograd/ops/index.ts';
import { full, memory, scope, tensor } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

const device = useGpu();

test('a capture replays on new inputs and new parameters, and gives its buffers to nobody else', async () => {
  const { gpu } = device;
  const before = memory().bytesInUse;
  const input = tensor([1, 2, 3]);
  let step = 1;
  const { result, replay } = gpu.capture(() => {
    using s = scope();
    const doubled = ops.scale(input, 2);
    return s.keep(ops.add(doubled, ops.dropout(input, { rate: 0.5, seed: 3, step: () => step, stream: 1 })));
  });
  const live = async (values: number[], at: number) => {
    using _s = scope();
    const x = tensor(values);
    return Array.from(await ops.add(ops.scale(x, 2), ops.dropout(x, { rate: 0.5, seed: 3, step: at, stream: 1 })).data());
  };
  expect(Array.from(await result.data())).toEqual(await live([1, 2, 3], 1));
  for (const [values, at] of [
    [[4, 5, 6], 2],
    [[7, 8, 9], 3],
  ] as const) {
    using _s = scope();
    step = at;
    input.write(Float32Array.from(values));
    const bystanders = Array.from({ length: 5 }, () => full([3], 42));
    replay.run();
    expect(Array.from(await result.data())).toEqual(await live([...values], at));
    for (const bystander of bystanders) expect(Array.from(await bystander.data())).toEqual([42, 42, 42]);
  }
  expect(() => gpu.capture(() => void gpu.capture(() => {}))).toThrow(/under way/);
  result.dispose();
  input.dispose();
  replay.dispose();
  expect(() => replay.run()).toThrow(/disposed/);
  expect(memory().bytesInUse).toBe(before);
});
