/** Scopes of concurrent async functions: no task disposes the tensors of another, and nothing stays behind. */
import { describe, expect, it } from 'vitest';
import * as ops from '../src/autograd/ops/index.ts';
import { memory, scope, scoped, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

useGpu();

const values = async (t: Tensor) => [...(await t.data())];

describe('scopes of tasks under Promise.all', () => {
  it('leave a tensor that another task made before its own scope', async () => {
    const work = async (k: number) => {
      const w = tensor([k, k]);
      for (let i = 0; i < 3; i++) {
        using _own = scope();
        await ops.add(w, w).data();
      }
      const result = await values(w);
      w.dispose();
      return result;
    };
    const before = memory().tensors;
    expect(await Promise.all([work(1), work(2), work(3)])).toEqual([
      [1, 1],
      [2, 2],
      [3, 3],
    ]);
    expect(memory().tensors).toBe(before);
  });

  it('leave a tensor that the caller makes while a task waits, to the scope of the caller', async () => {
    const before = memory().tensors;
    const task = async () => {
      using _own = scope();
      const a = tensor([1]);
      await a.data();
      tensor([2]);
    };
    let kept: Tensor;
    {
      using _outer = scope();
      const running = task();
      kept = tensor([3]);
      await running;
      expect(await values(kept)).toEqual([3]);
    }
    expect(kept.isDisposed).toBe(true);
    expect(memory().tensors).toBe(before);
  });

  it('dispose what an awaited function makes after its own awaits', async () => {
    const before = memory().tensors;
    const made: Tensor[] = [];
    const helper = async () => {
      const first = tensor([1]);
      await first.data();
      made.push(first, tensor([2]));
      return ops.add(first, first);
    };
    {
      using _own = scope();
      const sum = await helper();
      const again = await helper();
      expect(await values(ops.add(sum, again))).toEqual([4]);
    }
    expect(made.every((t) => t.isDisposed)).toBe(true);
    expect(memory().tensors).toBe(before);
  });

  it('hand a kept tensor to the task that asked for it', async () => {
    const inner = async (k: number) => {
      using own = scope();
      const twice = ops.scale(tensor([k]), 2);
      await twice.data();
      return own.keep(twice);
    };
    const outer = async (k: number) => {
      using _own = scope();
      const [a, b] = await Promise.all([inner(k), inner(k + 1)]);
      return (await values(ops.add(a, b)))[0];
    };
    const before = memory().tensors;
    expect(await Promise.all([outer(1), outer(10)])).toEqual([6, 42]);
    expect(memory().tensors).toBeLessThanOrEqual(before + 4); // a tensor kept by a task within Promise.all may outlive it
  });

  it('end as well with `scoped`, whatever the order in which tasks end', async () => {
    const before = memory().tensors;
    const task = (k: number) =>
      scoped(async () => {
        const a = tensor([k]);
        for (let i = 0; i < k; i++) await a.data();
        return (await values(ops.add(a, tensor([1]))))[0];
      });
    expect(await Promise.all([task(3), task(1), task(2)])).toEqual([4, 2, 3]);
    expect(memory().tensors).toBe(before);
  });
});
