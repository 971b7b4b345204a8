/** jax-js as a peer, on its WebGPU backend, each work compiled by its `jit`. */
import { type ConvShape, type Engine, numbers, type Prepared, type Work } from '../work.ts';
import { oracleModule, type Untyped } from './untyped.ts';

export async function openJax(): Promise<Engine> {
  const jax = await oracleModule('@jax-js/jax/dist/index.js');
  const found: string[] = await jax.init('webgpu');
  if (!found.includes('webgpu')) throw new Error('jax-js finds no WebGPU');
  jax.defaultDevice('webgpu');
  const { numpy: np, lax, nn } = jax;

  function repeat(f: (...inputs: Untyped[]) => Untyped, ...inputs: Untyped[]): Prepared {
    const compiled = jax.jit(f);
    let last: Untyped = null;
    return {
      async run(times = 1) {
        for (let i = 0; i < times; i++) {
          last?.dispose();
          last = await jax.blockUntilReady(compiled(...inputs.map((x) => x.ref))); // each: it is lazy, and what is not awaited may never run
        }
      },
      result: async () => await last.ref.data(),
      dispose: () => {
        for (const x of [...inputs, last]) x?.dispose();
      },
    };
  }

  function convolution(s: ConvShape): Prepared {
    const x = np.array(numbers(s.images * s.channels * s.height * s.width, 1)).reshape([s.images, s.channels, s.height, s.width]);
    const w = np.array(numbers(s.outChannels * s.channels * s.kernel ** 2, 2)).reshape([s.outChannels, s.channels, s.kernel, s.kernel]);
    const pad = [
      [s.pad, s.pad],
      [s.pad, s.pad],
    ];
    return repeat((a, b) => lax.convGeneralDilated(a, b, [s.stride, s.stride], pad), x, w);
  }

  async function prepare(work: Work): Promise<Prepared | null> {
    switch (work.kind) {
      case 'matmul': {
        const a = np.array(numbers(work.m * work.k, 1)).reshape(work.transA ? [work.k, work.m] : [work.m, work.k]);
        const b = np.array(numbers(work.k * work.n, 2)).reshape(work.transB ? [work.n, work.k] : [work.k, work.n]);
        return repeat((x, y) => np.matmul(work.transA ? x.transpose() : x, work.transB ? y.transpose() : y), a, b);
      }
      case 'conv':
        return convolution(work);
      case 'softmax': {
        const x = np.array(numbers(work.rows * work.columns, 1, 4)).reshape([work.rows, work.columns]);
        return repeat((logits) => nn.softmax(logits, -1), x);
      }
      default:
        return null;
    }
  }
  return { name: 'jax-js', prepare };
}
