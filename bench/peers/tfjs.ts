/** TensorFlow.js as a peer, on its WebGPU or its WebAssembly backend, with the decoder written in its own operations. */
import type { NamedArray } from '../../src/nn/parameters.ts';
import type { Linear, Norm, VitWeights } from '../vit_weights.ts';
import {
  ADAM,
  adamInputs,
  attentionInputs,
  type ConvShape,
  cellInputs,
  type DecoderShape,
  type Engine,
  type InputSet,
  numbers,
  opInputs,
  outSize,
  PATCH,
  PATCHES,
  PICTURE,
  type Prepared,
  pictureInputs,
  softmaxGradInputs,
  type VitWork,
  type Work,
  words,
} from '../work.ts';
import { oracleModule, type Untyped } from './untyped.ts';

/** Units and strides of ResNet-50: blocks, width, stride of the first block. */
const RESNET = [
  [3, 64, 1],
  [4, 128, 2],
  [6, 256, 2],
  [3, 512, 2],
] as const;

export async function openTfjs(backend: 'webgpu' | 'wasm'): Promise<Engine> {
  const tf = await oracleModule('@tensorflow/tfjs/dist/tf.node.js').then((m) => m.default ?? m);
  if (backend === 'webgpu') await oracleModule('@tensorflow/tfjs-backend-webgpu/dist/tf-backend-webgpu.node.js');
  else {
    const wasm = await oracleModule('@tensorflow/tfjs-backend-wasm/dist/tf-backend-wasm.node.js').then((m) => m.default ?? m);
    wasm.setWasmPaths(new URL('../../oracles/node_modules/@tensorflow/tfjs-backend-wasm/dist/', import.meta.url).pathname);
  }
  if (!(await tf.setBackend(backend))) throw new Error(`tfjs cannot open its backend ${backend}`);
  await tf.ready();

  /** Waits for the device without reading anything back. */
  async function wait(): Promise<void> {
    if (backend !== 'webgpu') return;
    const gpu = tf.backend();
    gpu.ensureCommandEncoderReady();
    gpu.endComputePassEncoder();
    gpu.submitQueue();
    await gpu.queue.onSubmittedWorkDone();
  }

  /** `plain` puts a result in the order in which it is compared. */
  function repeat(work: () => Untyped, inputs: readonly Untyped[], plain?: (result: Untyped) => Untyped): Prepared {
    let last: Untyped = [];
    return {
      async run(times = 1) {
        for (let i = 0; i < times; i++) {
          tf.dispose(last);
          last = tf.tidy(work);
        }
        await wait();
      },
      result: plain
        ? async () => {
            const ordered = tf.tidy(() => plain(last));
            const data = await ordered.data();
            if (ordered !== last) tf.dispose(ordered);
            return data;
          }
        : undefined,
      dispose: () => tf.dispose([...inputs, last]),
    };
  }

  /** Results one behind the other. */
  const parts = (results: Untyped[]) => tf.concat(results.map((each) => tf.reshape(each, [-1])));

  const gated = (gx: Untyped, gh: Untyped, c: Untyped): Untyped[] => {
    const [i, f, g, o] = tf.split(tf.add(gx, gh), 4, 1);
    const next = tf.add(tf.mul(tf.sigmoid(f), c), tf.mul(tf.sigmoid(i), tf.tanh(g)));
    return [tf.mul(tf.sigmoid(o), tf.tanh(next)), next];
  };

  function cell(work: Extract<Work, { kind: 'lstmCell' | 'lstmCellGrad' }>): Prepared {
    const { rows, hidden } = work;
    const given = cellInputs(work, 0);
    const make = (name: keyof typeof given, width: number) => tf.tensor(given[name], [rows, width]);
    const [gx, gh, c, dh, dc] = [make('gx', 4 * hidden), make('gh', 4 * hidden), make('c', hidden), make('dh', hidden), make('dc', hidden)];
    if (work.kind === 'lstmCell') return repeat(() => gated(gx, gh, c), [gx, gh, c, dh, dc], parts);
    const gradient = tf.grads((x: Untyped, cell: Untyped) => {
      const [h, next] = gated(x, gh, cell);
      return tf.add(tf.sum(tf.mul(h, dh)), tf.sum(tf.mul(next, dc)));
    });
    return { ...repeat(() => gradient([gx, c]), [gx, gh, c, dh, dc], parts), includes: 'the forward pass, which its tape needs' };
  }

  function attention(work: Extract<Work, { kind: 'attention' | 'attentionGrad' }>): Prepared {
    const { batch, regions, keys: a, values: d } = work;
    const given = attentionInputs(work, 0);
    const keys = tf.tensor(given.keys, [batch, regions, a]);
    const query = tf.tensor(given.query, [batch, 1, a]);
    const v = tf.tile(tf.tensor(given.v, [1, 1, a]), [batch, 1, 1]); // a copy for each picture, so that dv comes by picture
    const values = tf.tensor(given.values, [batch, regions, d]);
    const dcontext = tf.tensor(given.dcontext, [batch, d]);
    const attend = (k: Untyped, q: Untyped, w: Untyped): Untyped[] => {
      const alpha = tf.softmax(tf.sum(tf.mul(tf.tanh(tf.add(k, q)), w), 2));
      return [tf.reshape(tf.matMul(tf.reshape(alpha, [batch, 1, regions]), values), [batch, d]), alpha];
    };
    const inputs = [keys, query, v, values, dcontext];
    if (work.kind === 'attention') return repeat(() => attend(keys, query, v), inputs, parts);
    const gradient = tf.grads((k: Untyped, q: Untyped, w: Untyped) => tf.sum(tf.mul(attend(k, q, w)[0], dcontext)));
    return { ...repeat(() => gradient([keys, query, v]), inputs, parts), includes: 'the forward pass, which its tape needs' };
  }

  function adamUpdate(work: Extract<Work, { kind: 'adam' }>): Prepared {
    const given = adamInputs(work, 0);
    const [p, g, m, v] = [given.p, given.g, given.m, given.v].map((values) => tf.tensor(values, [work.count]));
    const { rate, beta1, beta2, eps, step } = ADAM;
    const update = () => {
      const first = tf.add(tf.mul(m, beta1), tf.mul(g, 1 - beta1));
      const second = tf.add(tf.mul(v, beta2), tf.mul(tf.square(g), 1 - beta2));
      const root = tf.add(tf.sqrt(tf.div(second, 1 - beta2 ** step)), eps);
      return [tf.sub(p, tf.mul(tf.div(first, root), rate / (1 - beta1 ** step))), first, second];
    };
    return { ...repeat(update, [p, g, m, v], parts), includes: 'new tensors for p, m and v, written in its own operations' };
  }

  function ofOp(work: Extract<Work, { kind: 'op' }>): Prepared | null {
    const [x, y] = opInputs(work, 0).map((values, i) => tf.tensor(values, work.shapes[i]));
    if (work.op === 'sum')
      return repeat(
        () => tf.sum(x, 1),
        [x],
        (sums: Untyped) => sums,
      );
    if (work.op === 'add')
      return repeat(
        () => tf.add(x, y),
        [x, y],
        (all: Untyped) => tf.reshape(all, [-1]),
      );
    tf.dispose([x, ...(y ? [y] : [])]);
    return null; // its results differ from ours in kind
  }

  const same = (x: Untyped) => x;
  const nchw = (x: Untyped) => tf.transpose(x, [0, 3, 1, 2]);

  function convolution(kind: 'conv' | 'convGradInput' | 'convGradWeight', s: ConvShape): Prepared {
    const [oh, ow] = [outSize(s.height, s), outSize(s.width, s)];
    const x = tf.transpose(tf.tensor(numbers(s.images * s.channels * s.height * s.width, 1), [s.images, s.channels, s.height, s.width]), [0, 2, 3, 1]);
    const w = tf.transpose(tf.tensor(numbers(s.outChannels * s.channels * s.kernel ** 2, 2), [s.outChannels, s.channels, s.kernel, s.kernel]), [2, 3, 1, 0]);
    const pad =
      s.pad === 0
        ? 'valid'
        : [
            [0, 0],
            [s.pad, s.pad],
            [s.pad, s.pad],
            [0, 0],
          ];
    if (kind === 'conv') return repeat(() => tf.conv2d(x, w, s.stride, pad), [x, w], nchw);
    const dy = tf.transpose(tf.tensor(numbers(s.images * s.outChannels * oh * ow, 3), [s.images, s.outChannels, oh, ow]), [0, 2, 3, 1]);
    const inputs = [x, w, dy];
    // Only the wanted gradient is asked for; the forward product it needs is none of its work here.
    const gradient =
      kind === 'convGradInput'
        ? () => tf.conv2dTranspose(dy, w, x.shape, s.stride, pad)
        : () =>
            tf.backend_util && tf.engine().runKernel('Conv2DBackpropFilter', { x, dy }, { strides: s.stride, pad, dataFormat: 'NHWC', filterShape: w.shape });
    return repeat(gradient, inputs, kind === 'convGradInput' ? nchw : (dw: Untyped) => tf.transpose(dw, [3, 2, 0, 1]));
  }

  function resnet(images: number): Prepared {
    let seed = 10;
    const kept: Untyped[] = [];
    const unit = (k: number, from: number, to: number, stride: number) => {
      const w = tf.tensor(numbers(k * k * from * to, seed++, Math.sqrt(3 / (k * k * from))), [k, k, from, to]);
      const bias = tf.tensor(numbers(to, seed++, 0.1));
      kept.push(w, bias);
      return (x: Untyped, relu: boolean) =>
        tf.fused.conv2d({
          x,
          filter: w,
          strides: stride,
          pad:
            k === 7
              ? [
                  [0, 0],
                  [3, 3],
                  [3, 3],
                  [0, 0],
                ]
              : 'same',
          bias,
          activation: relu ? 'relu' : 'linear',
        });
    };
    const stem = unit(7, 3, 64, 2);
    let from = 64;
    const blocks = RESNET.flatMap(([count, width, first]) =>
      Array.from({ length: count }, (_, i) => {
        const stride = i === 0 ? first : 1;
        const block = {
          a: unit(1, from, width, 1),
          b: unit(3, width, width, stride),
          c: unit(1, width, 4 * width, 1),
          shortcut: i === 0 ? unit(1, from, 4 * width, stride) : null,
        };
        from = 4 * width;
        return block;
      }),
    );
    const last = tf.tensor(numbers(2048 * 1000, seed++, 0.02), [2048, 1000]);
    const x = tf.tensor(numbers(images * 224 * 224 * 3, 1), [images, 224, 224, 3]);
    kept.push(last, x);
    return repeat(() => {
      let y = tf.maxPool(stem(x, true), 3, 2, 'same');
      for (const { a, b, c, shortcut } of blocks) y = tf.relu(tf.add(c(b(a(y, true), true), false), shortcut ? shortcut(y, false) : y));
      return tf.matMul(tf.mean(y, [1, 2]), last);
    }, kept);
  }

  /** With the weights of the file, so that its logits are compared. */
  function vit({ images, width, heads }: VitWork, weights: VitWeights): Prepared {
    const kept: Untyped[] = [];
    const keep = ({ shape, data }: NamedArray, order?: number[]): Untyped => {
      const given = tf.tensor(data, shape);
      kept.push(order ? tf.tidy(() => tf.transpose(given, order)) : given);
      if (order) given.dispose();
      return kept.at(-1);
    };
    const [each, tokens, across] = [width / heads, PATCHES + 1, PICTURE / PATCH];
    const linear = ({ weight, bias }: Linear) => {
      const [b, rest] = [keep(weight), keep(bias)];
      return (a: Untyped) => tf.fused.matMul({ a, b, bias: rest });
    };
    const norm = ({ gain, bias }: Norm) => {
      const [scale, shift] = [keep(gain), keep(bias)];
      return (x: Untyped) => {
        const centered = tf.sub(x, tf.mean(x, -1, true));
        const variance = tf.mean(tf.square(centered), -1, true);
        return tf.add(tf.mul(tf.mul(centered, tf.rsqrt(tf.add(variance, weights.epsilon))), scale), shift);
      };
    };
    const byHead = (x: Untyped) => tf.transpose(tf.reshape(x, [images, tokens, heads, each]), [0, 2, 1, 3]);
    const gelu = (x: Untyped) => tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1));
    const blocks = weights.blocks.map((block) => {
      const [norm1, norm2, attend, out, widen, narrow] = [
        ...[norm(block.norm1), norm(block.norm2)],
        ...[linear(block.attend), linear(block.out), linear(block.widen), linear(block.narrow)],
      ];
      return (x: Untyped) => {
        const [q, k, v] = tf.split(attend(norm1(x)), 3, 1).map(byHead);
        const shares = tf.softmax(tf.matMul(tf.mul(q, 1 / Math.sqrt(each)), k, false, true));
        const mixed = tf.reshape(tf.transpose(tf.matMul(shares, v), [0, 2, 1, 3]), [images * tokens, width]);
        const y = tf.add(x, out(mixed));
        return tf.add(y, narrow(gelu(widen(norm2(y)))));
      };
    });
    const [filter, bias] = [keep(weights.patches.weight, [2, 3, 1, 0]), keep(weights.patches.bias)];
    const [classToken, positions] = [keep(weights.classToken), keep(weights.positions)];
    const [last, head] = [norm(weights.norm), linear(weights.head)];
    const picture = (set: InputSet) => tf.transpose(tf.tensor(pictureInputs(images, set), [images, 3, PICTURE, PICTURE]), [0, 2, 3, 1]);
    const pictures = tf.variable(tf.tidy(() => picture(0)));
    const forward = () => {
      const patches = tf.fused.conv2d({ x: pictures, filter, strides: PATCH, pad: 'valid', bias });
      const all = tf.concat([tf.tile(classToken, [images, 1, 1]), tf.reshape(patches, [images, across * across, width])], 1);
      let x = tf.reshape(tf.add(all, positions), [images * tokens, width]);
      for (const block of blocks) x = block(x);
      const first = tf.slice(tf.reshape(x, [images, tokens, width]), [0, 0, 0], [images, 1, width]);
      return head(last(tf.reshape(first, [images, width])));
    };
    return {
      ...repeat(forward, [...kept, pictures], same),
      async load(set) {
        tf.tidy(() => pictures.assign(picture(set)));
        await wait();
      },
    };
  }

  /** The stacked decoder, all that does not depend on the state hoisted out of the loop as ours has it. */
  function decoder(s: DecoderShape) {
    const [project, attention, hidden, embedding] = [256, 512, 512, 256];
    let seed = 20;
    const variable = (...shape: number[]) =>
      tf.variable(
        tf.tensor(
          numbers(
            shape.reduce((p, e) => p * e, 1),
            seed++,
            0.08,
          ),
          shape,
        ),
      );
    const v = {
      encW: variable(s.features, project),
      encB: variable(project),
      w1: variable(project, attention),
      b1: variable(attention),
      w2: variable(hidden, attention),
      b2: variable(attention),
      v: variable(attention, 1),
      emb: variable(s.vocabulary, embedding),
      wz: variable(project, 4 * hidden),
      we: variable(embedding, 4 * hidden),
      lb1: variable(4 * hidden),
      u1: variable(hidden, 4 * hidden),
      w2l: variable(hidden, 4 * hidden),
      u2: variable(hidden, 4 * hidden),
      lb2: variable(4 * hidden),
      outW: variable(hidden, s.vocabulary),
      outB: variable(s.vocabulary),
    };
    const features = tf.tensor(numbers(s.batch * s.regions * s.features, 1), [s.batch, s.regions, s.features]);
    const encode = () => {
      const a = tf.relu(tf.add(tf.matMul(tf.reshape(features, [-1, s.features]), v.encW), v.encB));
      return { values: tf.reshape(a, [s.batch, s.regions, project]), keys: tf.reshape(tf.add(tf.matMul(a, v.w1), v.b1), [s.batch, s.regions, attention]) };
    };
    const cell = (gates: Untyped, c: Untyped): [Untyped, Untyped] => {
      const [i, f, g, o] = tf.split(gates, 4, 1);
      const next = tf.add(tf.mul(tf.sigmoid(f), c), tf.mul(tf.sigmoid(i), tf.tanh(g)));
      return [tf.mul(tf.sigmoid(o), tf.tanh(next)), next];
    };
    type State = { h1: Untyped; c1: Untyped; h2: Untyped; c2: Untyped };
    const start = (): State => {
      const zero = tf.zeros([s.batch, hidden]);
      return { h1: zero, c1: zero, h2: zero, c2: zero };
    };
    const step = (encoded: ReturnType<typeof encode>, xe: Untyped, state: State): State => {
      const query = tf.reshape(tf.add(tf.matMul(state.h2, v.w2), v.b2), [s.batch, 1, attention]);
      const scores = tf.reshape(tf.matMul(tf.reshape(tf.tanh(tf.add(encoded.keys, query)), [-1, attention]), v.v), [s.batch, s.regions]);
      const alpha = tf.softmax(scores);
      const context = tf.reshape(tf.matMul(tf.reshape(alpha, [s.batch, 1, s.regions]), encoded.values), [s.batch, project]);
      const [h1, c1] = cell(tf.add(tf.add(xe, tf.matMul(context, v.wz)), tf.matMul(state.h1, v.u1)), state.c1);
      const [h2, c2] = cell(tf.add(tf.add(tf.matMul(h1, v.w2l), tf.matMul(state.h2, v.u2)), v.lb2), state.c2);
      return { h1, c1, h2, c2 };
    };
    return { v, features, encode, start, step, embedding, hidden };
  }

  function trainStep(s: DecoderShape): Prepared {
    const d = decoder(s);
    const ids = tf.tensor(Int32Array.from(words(s.steps * s.batch, 5, s.vocabulary)), [s.steps * s.batch], 'int32');
    const targets = tf.tensor(Int32Array.from(words(s.steps * s.batch, 6, s.vocabulary)), [s.steps * s.batch], 'int32');
    const adam = tf.train.adam(4e-4);
    return {
      async run(times = 1) {
        for (let i = 1; i < times; i++) await this.run();
        const loss = adam.minimize(() => {
          const encoded = d.encode();
          const xe = tf.add(tf.matMul(tf.gather(d.v.emb, ids), d.v.we), d.v.lb1);
          let state = d.start();
          const outputs: Untyped[] = [];
          for (let t = 0; t < s.steps; t++) {
            state = d.step(encoded, tf.slice(xe, [t * s.batch, 0], [s.batch, 4 * d.hidden]), state);
            outputs.push(state.h2);
          }
          const logits = tf.add(tf.matMul(tf.concat(outputs, 0), d.v.outW), d.v.outB);
          return tf.losses.softmaxCrossEntropy(tf.oneHot(targets, s.vocabulary), logits);
        }, true);
        await loss.data();
        loss.dispose();
      },
      dispose: () => tf.dispose([...Object.values(d.v), d.features, ids, targets]),
    };
  }

  function greedy(s: DecoderShape): Prepared {
    const d = decoder(s);
    return {
      async run(times = 1) {
        for (let i = 1; i < times; i++) await this.run();
        const all = tf.tidy(() => {
          const encoded = d.encode();
          let state = d.start();
          let word = tf.fill([s.batch], 2, 'int32');
          const chosen: Untyped[] = [];
          for (let t = 0; t < s.steps; t++) {
            state = d.step(encoded, tf.add(tf.matMul(tf.gather(d.v.emb, word), d.v.we), d.v.lb1), state);
            word = tf.argMax(tf.add(tf.matMul(state.h2, d.v.outW), d.v.outB), 1);
            chosen.push(word);
          }
          return tf.stack(chosen);
        });
        await all.data();
        all.dispose();
      },
      dispose: () => tf.dispose([...Object.values(d.v), d.features]),
    };
  }

  async function prepare(work: Work): Promise<Prepared | null> {
    switch (work.kind) {
      case 'matmul': {
        const a = tf.tensor(numbers(work.m * work.k, 1), work.transA ? [work.k, work.m] : [work.m, work.k]);
        const b = tf.tensor(numbers(work.k * work.n, 2), work.transB ? [work.n, work.k] : [work.k, work.n]);
        return repeat(() => tf.matMul(a, b, work.transA, work.transB), [a, b], same);
      }
      case 'conv':
      case 'convGradInput':
      case 'convGradWeight':
        return convolution(work.kind, work);
      case 'softmax': {
        const x = tf.tensor(numbers(work.rows * work.columns, 1, 4), [work.rows, work.columns]);
        return repeat(() => tf.softmax(x), [x], same);
      }
      case 'crossEntropyGrad': {
        const x = tf.tensor(numbers(work.rows * work.columns, 1, 4), [work.rows, work.columns]);
        const targets = tf.tensor(Int32Array.from(words(work.rows, 2, work.columns)), [work.rows], 'int32');
        const loss = tf.grad((logits: Untyped) => tf.sum(tf.neg(tf.sum(tf.mul(tf.logSoftmax(logits), tf.oneHot(targets, work.columns)), 1))));
        return repeat(() => loss(x), [x, targets], same);
      }
      case 'lstmCell':
      case 'lstmCellGrad':
        return cell(work);
      case 'attention':
      case 'attentionGrad':
        return attention(work);
      case 'adam':
        return adamUpdate(work);
      case 'softmaxGrad': {
        const given = softmaxGradInputs(work, 0);
        const [y, dy] = [given.y, given.dy].map((values) => tf.tensor(values, [work.rows, work.columns]));
        return repeat(() => tf.sub(dy, tf.mul(tf.exp(y), tf.sum(dy, 1, true))), [y, dy], same);
      }
      case 'scaledDotProductGrad':
        return null;
      case 'op':
        return ofOp(work);
      case 'resnet50':
        return resnet(work.images);
      case 'vit':
        return vit(work, await (await import('../vit_weights.ts')).vitWeights(work)); // it reads with the engine, which no other work needs here
      case 'trainStep':
        return trainStep(work);
      case 'greedy':
        return greedy(work);
    }
  }
  return { name: `tfjs-${backend}`, prepare };
}
