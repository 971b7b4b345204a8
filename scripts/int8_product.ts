/**
 * Times the engine's float32 product beside one of int8 numbers by WGSL's dot4I8Packed, in turn, on each software driver. Quantized ONNX
 * models are computed in float32 as long as this is the faster of the two.
 *
 *   npx tsx scripts/int8_product.ts
 */
import * as ops from '../src/autograd/ops/index.ts';
import { noGrad } from '../src/autograd/tape.ts';
import { openGpu } from '../src/platform/node/open.ts';
import { empty, scope, type Tensor, tensor } from '../src/tensor/tensor.ts';

const [M, K, N] = [512, 768, 768];
const ROUNDS = 15;
const FOUR = [0, 1, 2, 3];

/** Each thread has 4 × 4 results; a and b hold four numbers along K in a word, b [N, K]. */
const source = `
struct Params { M: u32, N: u32, words: u32 }
@group(0) @binding(0) var<storage, read> a: array<u32>;
@group(0) @binding(1) var<storage, read> b: array<u32>;
@group(0) @binding(2) var<storage, read_write> c: array<i32>;
@group(1) @binding(0) var<uniform> params: Params;
@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let row = id.y * 4u;
  let col = id.x * 4u;
  if (row >= params.M || col >= params.N) { return; }
  var sum: array<i32, 16>;
  for (var k = 0u; k < params.words; k++) {
    ${FOUR.map((i) => `let a${i} = a[(row + ${i}u) * params.words + k]; let b${i} = b[(col + ${i}u) * params.words + k];`).join(' ')}
    ${FOUR.flatMap((i) => FOUR.map((j) => `sum[${4 * i + j}] += dot4I8Packed(a${i}, b${j});`)).join(' ')}
  }
  for (var i = 0u; i < 4u; i++) { for (var j = 0u; j < 4u; j++) { c[(row + i) * params.N + col + j] = sum[4u * i + j]; } }
}
`;

const numbers = (count: number, seed: number) => Int8Array.from({ length: count }, (_, i) => ((i * 7919 + seed * 31) % 255) - 127);
const median = (list: readonly number[]) => [...list].sort((x, y) => x - y)[Math.floor(list.length / 2)];

async function compare(adapter: string): Promise<void> {
  const gpu = await openGpu({ adapter });
  using _all = scope();
  const [a, b] = [numbers(M * K, 1), numbers(N * K, 2)];
  const packed = (values: Int8Array<ArrayBuffer>, rows: number) => tensor(new Uint32Array(values.buffer), [rows, K / 4]);
  const [a8, b8, c8] = [packed(a, M), packed(b, N), empty([M, N], 'i32')];
  const [af, bf] = [tensor(Float32Array.from(a), [M, K]), tensor(Float32Array.from(b), [N, K])];
  const kernel = gpu.kernel({ file: 'int8_product', source });
  const int8 = () => gpu.dispatch(kernel, [a8.slice, b8.slice, c8.slice], { M, N, words: K / 4 }, [N / 32, M / 32, 1]);
  const float: () => Tensor = () => noGrad(() => ops.matmul(af, bf, { transB: true }));
  int8();
  const [found, expected] = [await c8.data(), await float().data()];
  const wrong = expected.findIndex((value, i) => value !== found[i]);
  if (wrong >= 0) throw new Error(`the products differ at ${wrong}: ${found[wrong]}, ${expected[wrong]}`);
  const times: number[][] = [[], []];
  for (let round = 0; round < ROUNDS; round++)
    for (const [i, run] of [int8, float].entries()) {
      using _round = scope();
      const start = performance.now();
      run();
      await gpu.idle();
      times[i].push(performance.now() - start);
    }
  const [ofInt8, ofFloat] = times.map(median);
  console.log(`${gpu.description}: int8 ${ofInt8.toFixed(1)} ms, float32 ${ofFloat.toFixed(1)} ms, ${(ofInt8 / ofFloat).toFixed(2)} times as long`);
  await gpu.close();
}

for (const adapter of ['lavapipe', 'swiftshader']) await compare(adapter);
