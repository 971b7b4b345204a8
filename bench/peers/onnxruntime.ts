/**
 * onnxruntime as a peer: in the browser's build on WebGPU, in Node's on its own WebGPU provider and on the CPU. Each work is
 * a model of one node, its inputs kept on the device.
 */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import type { Expected } from '../reference.ts';
import { type Engine, type FileWork, type InputSet, numbers, PICTURE, type Prepared, pictureInputs, type Work } from '../work.ts';
import { floatTensor, node, onnxBytes } from './onnx_writer.ts';
import { oracleModule, type Untyped } from './untyped.ts';

export type OnnxPeer = 'onnxruntime-web' | 'onnxruntime-node-webgpu' | 'onnxruntime-cpu';

interface OneNode {
  model: Uint8Array;
  feeds: Record<string, { data: Float32Array; shape: number[] }>;
  output: string;
}

function oneNode(work: Work): OneNode | null {
  /** `weights` are initializers of the model, where ours keep prepared copies of them: the session may pack them once. */
  const build = (bytes: Buffer, feeds: OneNode['feeds'], weights: OneNode['feeds'] = {}): OneNode => ({
    model: onnxBytes({
      nodes: [bytes],
      inputs: Object.entries(feeds).map(([name, { shape }]) => ({ name, shape })),
      outputs: ['y'],
      initializers: Object.entries(weights).map(([name, { data, shape }]) => floatTensor(name, shape, data)),
    }),
    feeds,
    output: 'y',
  });
  switch (work.kind) {
    case 'matmul': {
      const a = { data: numbers(work.m * work.k, 1), shape: work.transA ? [work.k, work.m] : [work.m, work.k] };
      const b = { data: numbers(work.k * work.n, 2), shape: work.transB ? [work.n, work.k] : [work.k, work.n] };
      if (work.transA) return build(node('Gemm', ['a', 'b'], ['y'], { transA: 1, transB: work.transB ? 1 : 0 }), { a, b }); // a gradient has no weights
      return build(work.transB ? node('Gemm', ['a', 'b'], ['y'], { transA: 0, transB: 1 }) : node('MatMul', ['a', 'b'], ['y']), { a }, { b });
    }
    case 'conv': {
      const { images, channels, height, width, outChannels, kernel, stride, pad } = work;
      const x = { data: numbers(images * channels * height * width, 1), shape: [images, channels, height, width] };
      const w = { data: numbers(outChannels * channels * kernel ** 2, 2), shape: [outChannels, channels, kernel, kernel] };
      const conv = node('Conv', ['x', 'w'], ['y'], { kernel_shape: [kernel, kernel], strides: [stride, stride], pads: [pad, pad, pad, pad] });
      return build(conv, { x }, { w });
    }
    case 'softmax':
      return build(node('Softmax', ['x'], ['y'], { axis: -1 }), {
        x: { data: numbers(work.rows * work.columns, 1, 4), shape: [work.rows, work.columns] },
      });
    default:
      return null;
  }
}

/** The browser's build writes buffers from a SharedArrayBuffer, which Dawn's Node bindings refuse: copy first. */
function copySharedUploads(): void {
  const queue = (globalThis as Untyped).GPUQueue.prototype;
  const original = queue.writeBuffer;
  queue.writeBuffer = function (buffer: Untyped, offset: number, data: Untyped, from?: number, size?: number) {
    const view = ArrayBuffer.isView(data) ? data : new Uint8Array(data);
    const unit = ArrayBuffer.isView(data) && 'BYTES_PER_ELEMENT' in data ? (data as Uint8Array).BYTES_PER_ELEMENT : 1;
    const start = view.byteOffset + (from ?? 0) * unit;
    const bytes = size === undefined ? view.byteLength - (from ?? 0) * unit : size * unit;
    return original.call(this, buffer, offset, new Uint8Array(view.buffer, start, bytes).slice());
  };
}

export async function openOnnxruntime(kind: OnnxPeer): Promise<Engine> {
  const web = kind === 'onnxruntime-web';
  const ort = web
    ? await oracleModule('onnxruntime-web/dist/ort.webgpu.bundle.min.mjs')
    : await oracleModule('onnxruntime-node/dist/index.js').then((m) => m.default ?? m);
  if (web) {
    copySharedUploads();
    ort.env.wasm.numThreads = 1;
  }
  const providers = kind === 'onnxruntime-cpu' ? ['cpu'] : ['webgpu'];

  async function session(model: Uint8Array, keepOnGpu: boolean): Promise<Untyped> {
    return ort.InferenceSession.create(model, {
      executionProviders: providers,
      intraOpNumThreads: 2,
      logSeverityLevel: 3,
      ...(keepOnGpu ? { preferredOutputLocation: 'gpu-buffer' } : {}),
    });
  }

  /** An input that lies on the device already, where the binding can have such. */
  function onDevice(device: GPUDevice, data: Float32Array, shape: number[]): Untyped {
    const buffer = device.createBuffer({
      size: Math.ceil(data.byteLength / 16) * 16,
      usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
    });
    device.queue.writeBuffer(buffer, 0, data as Float32Array<ArrayBuffer>);
    return ort.Tensor.fromGpuBuffer(buffer, { dataType: 'float32', dims: shape });
  }

  async function prepare(work: Work): Promise<Prepared | null> {
    if ('model' in work) {
      const bytes = readFileSync(work.model);
      const s = await session(work.model.endsWith('.gz') ? gunzipSync(bytes) : bytes, false);
      const [input, output]: string[] = [s.inputNames[0], s.outputNames[0]];
      let feeds: Untyped = null;
      let last: Untyped = null;
      const load = async (set: InputSet) => {
        feeds = { [input]: new ort.Tensor('float32', pictureInputs(work.images, set), [work.images, 3, PICTURE, PICTURE]) };
      };
      await load(0);
      return {
        load,
        async run(times = 1) {
          for (let i = 0; i < times; i++) last = await s.run(feeds);
        },
        includes: 'pictures and logits in host memory',
        result: () => last[output].getData(),
        dispose: () => void s.release(),
      };
    }
    const one = oneNode(work);
    if (!one) return null;
    const s = await session(one.model, web);
    const device: GPUDevice | null = web ? await ort.env.webgpu.device : null;
    const feeds = Object.fromEntries(
      Object.entries(one.feeds).map(([name, { data, shape }]) => [name, device ? onDevice(device, data, shape) : new ort.Tensor('float32', data, shape)]),
    );
    let last: Untyped = null;
    return {
      async run(times = 1) {
        for (let i = 0; i < times; i++) {
          if (device) last?.y.dispose();
          last = await s.run(feeds);
        }
        await device?.queue.onSubmittedWorkDone();
      },
      // Node's binding has no tensors that stay on a device.
      ...(kind === 'onnxruntime-node-webgpu' ? { includes: 'the upload of its input and the readback of its result' } : {}),
      result: () => last.y.getData(),
      dispose: () => {
        if (device) {
          last?.y.dispose();
          for (const feed of Object.values(feeds) as Untyped[]) feed.gpuBuffer.destroy();
        }
        void s.release();
      },
    };
  }
  return { name: kind, prepare };
}

/** The logits of a model from a file as onnxruntime has them on the CPU, in this process. */
export async function onnxruntimeLogits(work: FileWork, set: InputSet): Promise<Expected> {
  const prepared = await (await openOnnxruntime('onnxruntime-cpu')).prepare(work);
  if (!prepared?.load || !prepared.result) throw new Error(`onnxruntime cannot run ${work.model}`);
  await prepared.load(set);
  await prepared.run();
  const values = await prepared.result();
  prepared.dispose();
  return { values, shape: [work.images, values.length / work.images], tolerance: 1e-4, against: 'onnxruntime on the CPU' };
}
