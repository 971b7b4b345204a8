/** `glimpse trace`: a caption through the captioner, equation by equation; or a golden's batch. Exit 1 where a kernel is off. */
import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { writeFileAtomic } from '../data/atomic_file.ts';
import type { Preprocessing } from '../data/preprocessing.ts';
import { END, PAD } from '../data/words.ts';
import { FileError, GlimpseError, UsageError } from '../errors.ts';
import type { Gpu } from '../gpu/gpu.ts';
import { Captioner, PRESETS } from '../model/captioner/captioner.ts';
import { batchMajor, distance, readGolden } from '../model/captioner/golden.ts';
import { openEncoderOf } from '../model/encoder/encoder.ts';
import { vocabularyOf } from '../model/training/checkpoint_format.ts';
import { dataUrl, heatMap, readPixels } from '../plot/heat_map.ts';
import { short } from '../study/numbers.ts';
import { captionInput, type Trace, type TraceInput, type TraceNode, trace } from '../study/trace.ts';
import { type CaptionedWord, tracePage } from '../study/trace_page.ts';
import { scope, tensor } from '../tensor/tensor.ts';
import type { TraceOptions } from './commands/trace.ts';
import { result, say } from './output.ts';
import { checkpointAt, withGpu } from './session.ts';
import { readShaders, useShaders } from './shaders.ts';

/** A model with what goes through it. */
interface Subject {
  name: string;
  model: Captioner;
  input: TraceInput;
  /** Of a picture: its words, with the words before them. */
  words: string[];
  picture: string | null;
  /** How the encoder sees the picture. */
  seenBy?: Preprocessing;
  dispose(): void;
}

async function ofPicture(o: TraceOptions, run: string, picture: string): Promise<Subject> {
  const checkpoint = checkpointAt(o, run);
  const { sizes, options, maxLength, preset } = checkpoint.config;
  const vocabulary = vocabularyOf(checkpoint);
  const encoder = await openEncoderOf(checkpoint);
  const model = Captioner.fromWeights(sizes, options, checkpoint.weights);
  using _caption = scope();
  const { values } = await encoder.features([await encoder.load(picture)], [picture]);
  encoder.dispose();
  const [{ tokens }] = await model.decoding.greedy(tensor(values, [1, sizes.regions, sizes.features]), maxLength - 1, { suppress: preset === 'recommended' });
  const said = [...tokens, END];
  if (o.word !== undefined && o.word > said.length) throw new UsageError(`--word ${o.word}: the caption has ${said.length} words, its end included`);
  const input = captionInput(values, said);
  return { name: run, model, input, words: said.map((id) => vocabulary.word(id)), picture, seenBy: encoder.preprocessing, dispose: () => model.dispose() };
}

/** A golden's tensors, batch-major there and time-major here. */
function ofGolden(path: string): Subject & { compare(t: Trace): { name: string; relative: number }[] } {
  const golden = readGolden(path);
  const { sizes, get, weights, ids, targets, counted, batch, steps } = golden;
  const input = {
    features: Float32Array.from(get('in.features').data),
    ...{ ids, targets, batch, steps },
    weights: Float32Array.from(targets, (id) => (id === PAD ? 0 : 1 / counted)),
  };
  const model = Captioner.fromWeights(sizes, PRESETS.basic, weights);
  const relative = (name: string, got: ArrayLike<number>, wanted: ArrayLike<number>) => ({ name, relative: distance(got, wanted).relative });
  return {
    ...{ name: path, model, input, words: [], picture: null, dispose: () => model.dispose() },
    compare: (t) => [
      relative('logits', batchMajor(t.logits, golden, sizes.vocabulary), get('logits').data),
      relative('alpha', batchMajor(t.alpha.flat(), golden, sizes.regions), get('alpha').data),
      ...t.gradients.map(({ name, values }) => relative(`d ${name}`, values, get(`grad_token_mean.${name}`).data)),
    ],
  };
}

const percent = (share: number) => `${(100 * share).toFixed(0)} %`;

function nodeText(n: TraceNode): string {
  const where = `${n.step === null ? '' : `t = ${n.step}: `}${n.key}`;
  const head = `${n.ok ? ' ' : '✗'} ${where}  —  ${n.says}`;
  const kernel = `    ${n.kernel}${n.version && n.version !== 'invocation' ? ` (${n.version}, ${n.why})` : ''}, ${n.workgroups.join('×')} workgroups`;
  const cost = `${n.ms === null ? '' : `, ${n.ms.toFixed(3)} ms`}, ${(n.flops / 1e6).toFixed(2)} MFLOP, ${(n.bytes / 1e6).toFixed(2)} MB${n.roofline ? `, ${percent(n.roofline.share)} of the roof` : ''}`;
  const error = n.local
    ? `    error: its own ${n.local.maxAbs.toExponential(1)} (${n.local.ulp.toFixed(1)} ulp), since the start ${n.accumulated?.maxAbs.toExponential(1)} (${n.accumulated?.ulp.toFixed(1)} ulp)`
    : '    error: float64 does not know this kernel';
  const tensors = n.tensors.map(
    (t) =>
      `    ${t.role === 'in' ? '→' : '←'} ${t.name} [${t.shape}]: ${short(t.min)} … ${short(t.max)}, mean ${short(t.mean)}, std ${short(t.std)}, norm ${short(t.norm)}${t.saturated === null ? '' : `, ${percent(t.saturated)} saturated`}: ${t.values.slice(0, 4).map(short).join(', ')} …`,
  );
  return [head, kernel + cost, error, ...tensors].join('\n');
}

function asText(t: Trace, words: readonly string[], focus: number | null, golden: readonly { name: string; relative: number }[]): string {
  const nodes = t.nodes.filter(({ step }) => focus === null || step === null || step === focus);
  const sums = t.weightSums.map(
    (w) =>
      `  ${w.key}: ${w.parts.map(({ step, norm }) => `t ${step}: ${short(norm)}`).join(', ')}; the product ${short(w.norm)}, off by ${w.difference.toExponential(1)}`,
  );
  return [
    ...(words.length > 0 ? [`"${words.join(' ')}"`] : []),
    ...nodes.map(nodeText),
    ...(sums.length > 0 ? ['', 'Σ over the steps beside the one product:', ...sums] : []),
    ...(golden.length > 0 ? ['', 'golden, relative errors:', ...golden.map(({ name, relative }) => `  ${name}: ${relative.toExponential(1)}`)] : []),
    '',
    `${t.adapter}`,
    `${t.nodes.length} equations and ${t.others} other dispatches; ${t.wrong.length} off${t.unknown.length > 0 ? `; not checked: ${t.unknown.join(', ')}` : ''}`,
    ...t.wrong.map((each) => `OFF: ${each}`),
  ].join('\n');
}

/** JSON of an object, a piece for each element of its lists: one text could be longer than a text may be. */
function* inPieces(value: object): Generator<string> {
  let separator = '{';
  for (const [name, field] of Object.entries(value)) {
    if (field === undefined) continue;
    yield `${separator}${JSON.stringify(name)}:`;
    separator = ',';
    if (!Array.isArray(field)) {
      yield JSON.stringify(field);
      continue;
    }
    yield '[';
    for (const [i, element] of field.entries()) yield `${i === 0 ? '' : ','}${JSON.stringify(element)}`;
    yield ']';
  }
  yield '}';
}

/** Relative error that a golden's tensors may have. */
const GOLDEN = 1e-5;

async function page(subject: Subject, t: Trace, gpu: Gpu): Promise<string> {
  const { picture, words, seenBy } = subject;
  const pixels = picture ? await readPixels(picture, 160, seenBy) : null;
  const captioned: CaptionedWord[] = [];
  for (const [i, alpha] of t.alpha.entries()) {
    const map =
      pixels && Number.isInteger(Math.sqrt(t.sizes.regions))
        ? await dataUrl(await heatMap(pixels, Float32Array.from(alpha.slice(0, t.sizes.regions))), 'jpeg')
        : null;
    captioned.push({ word: words[i] ?? `t = ${i + 1}`, map });
  }
  const shaders = [...new Set(t.nodes.map(({ shader }) => shader))];
  return tracePage({
    title: picture ? `${basename(picture)}: ${words.join(' ')}` : basename(subject.name),
    trace: t,
    words: captioned,
    picture: pixels ? await dataUrl(pixels, 'jpeg') : null,
    sources: Object.fromEntries(shaders.map((shader) => [shader, gpu.host.shaderSource(shader)])),
  });
}

export async function traceCommand(o: TraceOptions, run: string | undefined, picture: string | undefined): Promise<number> {
  if (o.golden ? run !== undefined : run === undefined || picture === undefined)
    throw new UsageError('trace takes a run and a picture, or --golden FILE alone');
  if (picture && !existsSync(picture)) throw new FileError(picture, 'no such file');
  const shaders = readShaders(o.shader);
  return withGpu({ adapter: o.adapter, quiet: o.quiet }, async (gpu) => {
    await useShaders(gpu, shaders); // not checked before: the trace shows where they are off
    const golden = o.golden ? ofGolden(o.golden) : null;
    const subject = golden ?? (await ofPicture(o, run as string, picture as string));
    try {
      if (o.word !== undefined && o.word > subject.input.steps) throw new UsageError(`--word ${o.word}: there are ${subject.input.steps} steps`);
      const focus = o.word ?? null;
      const t = await trace(gpu, subject.model, subject.input, { train: o.train || golden !== null, all: o.values === 'all', focus });
      const compared = golden?.compare(t) ?? [];
      const { html } = o;
      const out = o.json === '-' ? undefined : o.json;
      const everything = {
        schema: 1,
        ...{ date: new Date().toISOString(), subject: subject.name, picture: subject.picture, words: subject.words },
        ...t,
        gradients: t.gradients.map(({ name, shape, values }) => ({
          name,
          shape,
          values: o.values === 'all' ? Array.from(values) : Array.from(values.subarray(0, 8)),
        })),
        logits: o.values === 'all' ? Array.from(t.logits) : undefined,
        golden: compared,
      };
      if (out) writeFileAtomic(out, inPieces(everything));
      if (html) writeFileAtomic(html, [await page(subject, t, gpu)]);
      for (const file of [out, html]) if (file) say({ quiet: o.quiet }, `written: ${file}`);
      result({ json: o.json === '-' }, everything, () => asText(t, subject.words, focus ?? (subject.input.steps > 1 ? 1 : null), compared));
      const far = compared.filter(({ relative }) => !(relative <= GOLDEN));
      for (const { name, relative } of far) process.stderr.write(`glimpse: ${name} is off the golden by ${relative.toExponential(1)}\n`);
      if (t.wrong.length > 0) process.stderr.write(`glimpse: ${t.wrong.length} dispatches are off, the first: ${t.wrong[0]}\n`);
      return t.wrong.length + far.length > 0 ? 1 : 0;
    } catch (error) {
      throw error instanceof RangeError ? new GlimpseError(`the trace is too large: ${error.message}`) : error;
    } finally {
      subject.dispose();
    }
  });
}
