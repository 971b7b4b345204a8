/** `glimpse onnx inspect`, `onnx run` and `onnx profile`: one model, looked at, run, timed. */
import { join } from 'node:path';
import { noGrad } from '../autograd/tape.ts';
import { makeFolder, writeFileAtomic } from '../data/atomic_file.ts';
import { openFile } from '../data/file_source.ts';
import { GlimpseError, messageOf, UsageError } from '../errors.ts';
import type { Gpu } from '../gpu/gpu.ts';
import { costOf } from '../kernels/costs.ts';
import { unpackedModel } from '../model/encoder/encoder.ts';
import { labelOf } from '../model/onnx/operator.ts';
import { type OnnxInput, readValueFile } from '../model/onnx/proto.ts';
import { type Given, OnnxModel } from '../model/onnx/run.ts';
import { type Survey, surveyOf } from '../model/onnx/survey.ts';
import { type HostTensor, isDevice, isHost, sizeOfValue, typeName } from '../model/onnx/values.ts';
import { shown } from '../model/onnx/wire.ts';
import { ELEMENT, tensorMessage } from '../model/onnx/writer.ts';
import { Random } from '../random.ts';
import { profileStep } from '../study/profile.ts';
import { sizeOf } from '../tensor/shape.ts';
import { memory, scoped, Tensor, tensor } from '../tensor/tensor.ts';
import type { OnnxInspectOptions, OnnxProfileOptions, OnnxRunOptions } from './commands/onnx_model.ts';
import { result, say } from './output.ts';
import { formatStepProfile } from './profile.ts';
import { withGpu } from './session.ts';

/** Most numbers of the inputs that are made up. */
const MOST_MADE = 2 ** 26;

type Pairs<T> = readonly (readonly [string, T])[] | undefined;

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 2 : 0)} MB`;
const extents = ({ shape, open }: OnnxInput): string => `[${shape.map((extent, i) => (extent < 0 ? (open[i] ?? '?') : extent)).join(', ')}]`;

/** Values for every input: from files, else random numbers; what was chosen is said. */
function inputsOf(inputs: readonly OnnxInput[], files: Pairs<string>, dims: Pairs<number>): { given: Record<string, Given>; said: string[] } {
  const [chosen, sizes] = [new Map(files), new Map(dims)];
  const unknown = [...chosen.keys()].find((name) => !inputs.some((input) => input.name === name));
  if (unknown !== undefined) throw new UsageError(`the model has no input "${unknown}" (${inputs.map(({ name }) => name).join(', ')})`);
  const open = new Set(inputs.flatMap((input) => input.open));
  const other = [...sizes.keys()].find((name) => !open.has(name));
  if (other !== undefined)
    throw new UsageError(`no input has an open extent "${other}" (${[...open].filter((name) => name !== null).join(', ') || 'none has one with a name'})`);
  const given: Record<string, Given> = {};
  const said: string[] = [];
  let made = 0;
  for (const input of inputs) {
    const { name, kind, type } = input;
    const path = chosen.get(name);
    if (path !== undefined) {
      const { value } = readValueFile(openFile(path), kind);
      given[name] = value.kind === 'float' && value.type !== 'double' ? tensor(Float32Array.from(value.data), value.shape) : value;
      said.push(`${name} ${'shape' in value ? `[${value.shape}]` : `(${typeName(value)})`} from ${path}`);
      continue;
    }
    const shape = input.shape.map((extent, i) => (extent < 0 ? (sizes.get(input.open[i] ?? '') ?? 1) : extent));
    made += sizeOf(shape);
    if (!(made <= MOST_MADE))
      throw new UsageError(
        `input "${shown(name)}" [${shape}]: inputs of more than ${MOST_MADE} numbers are not made up; give it with --input ${shown(name)}=FILE.pb`,
      );
    const random = new Random(1, name);
    if (kind === 'float')
      given[name] = tensor(
        Float32Array.from({ length: sizeOf(shape) }, () => random.normal()),
        shape,
      );
    else if (kind === 'int') given[name] = { kind, type, shape, data: new Array<number>(sizeOf(shape)).fill(0) };
    else throw new UsageError(`input "${name}" is of ${kind}s; give it with --input ${name}=FILE.pb`);
    said.push(`${name} [${shape}] of ${kind === 'float' ? 'random numbers' : 'zeros'}`);
  }
  return { given, said };
}

interface NodeRow {
  label: string;
  op: string;
  shapes: (readonly number[])[];
  types: string[];
}

interface Ran {
  flops: number;
  bytes: number;
  dispatches: number;
  /** Numbers of the largest value, and bytes of buffers at the most. */
  largest: number;
  memoryBytes: number;
  nodes: NodeRow[];
}

async function ranOnce(gpu: Gpu, model: OnnxModel, given: Readonly<Record<string, Given>>): Promise<Ran> {
  const ran: Ran = { flops: 0, bytes: 0, dispatches: 0, largest: 0, memoryBytes: 0, nodes: [] };
  gpu.trace = (dispatch) => {
    const cost = costOf(dispatch);
    ran.dispatches++;
    ran.flops += cost?.flops ?? 0;
    ran.bytes += cost?.bytes ?? 0;
  };
  model.watch = (node, results) => {
    const values = results.filter((value) => value !== null);
    for (const value of values) ran.largest = Math.max(ran.largest, sizeOfValue(value));
    const shapes = results.flatMap((value, i) => (value && (isDevice(value) || isHost(value)) ? [model.shapeOf(node.outputs[i] ?? '', value)] : []));
    ran.nodes.push({ label: labelOf(node), op: node.op, shapes, types: values.map(typeName) });
  };
  try {
    await model.computeAsync(given);
    await gpu.idle();
    ran.memoryBytes = memory().peakBytes;
  } finally {
    gpu.trace = null;
    model.watch = null;
  }
  return ran;
}

function surveyText(file: string, s: Survey): string[] {
  const types = Object.entries(s.weights.types).map(([type, numbers]) => `${(numbers / 1e6).toFixed(2)} M ${type}`);
  const missing = s.operators.filter(({ supported }) => !supported);
  return [
    `${file}: opset ${s.opset}, ${megabytes(s.bytes)}`,
    ...s.inputs.map((input) => `input    ${input.name}: ${input.type ?? input.kind} ${extents(input)}`),
    ...s.outputs.map((name) => `output   ${name}`),
    `weights  ${s.weights.tensors} tensors, ${megabytes(s.weights.bytes)}: ${types.join(', ') || 'none'}`,
    `nodes    ${s.operators.reduce((sum, { nodes }) => sum + nodes, 0)}: ${s.operators.map(({ op, nodes }) => `${op} ${nodes}`).join(', ')}`,
    ...(s.functions.length > 0 ? [`functions ${s.functions.join(', ')}`] : []),
    ...(missing.length > 0 ? [`not supported: ${missing.map(({ op, nodes }) => `${op} (${nodes})`).join(', ')}`] : []),
    ...(s.problem !== null ? [`does not run: ${s.problem}`] : []),
  ];
}

export async function inspect(o: OnnxInspectOptions, file: string): Promise<number> {
  const path = await unpackedModel(file);
  const survey = surveyOf(openFile(path));
  if (o.structure || survey.problem !== null) {
    result(o, { ...survey, ran: null }, () => surveyText(file, survey));
    return survey.problem === null ? 0 : 1;
  }
  return withGpu(o, (gpu) =>
    scoped(async () => {
      const model = OnnxModel.load(openFile(path));
      try {
        const { given, said } = inputsOf(model.graph.inputs, o.input, o.dim);
        const ran = await ranOnce(gpu, model, given);
        const { nodes, ...sums } = ran;
        result(o, { ...survey, ran: o.nodes ? ran : { ...sums, nodes: nodes.length } }, () => [
          ...surveyText(file, survey),
          `run      with ${said.join('; ')}`,
          `         ${nodes.length} nodes after fusing, ${ran.dispatches} dispatches, ${(ran.flops / 1e9).toFixed(3)} GFLOP, ${megabytes(ran.bytes)} read and written`,
          `         largest value ${megabytes(4 * ran.largest)}, at most ${megabytes(ran.memoryBytes)} of buffers at a time`,
          ...(o.nodes
            ? nodes.map(({ label, shapes, types }) => `  ${label}: ${shapes.map((shape, i) => `${types[i]} [${shape}]`).join(', ') || types.join(', ')}`)
            : []),
        ]);
        return 0;
      } catch (error) {
        if (!(error instanceof GlimpseError)) throw error;
        result(o, { ...survey, problem: messageOf(error), ran: null }, () => surveyText(file, { ...survey, problem: messageOf(error) }));
        return 1;
      } finally {
        model.dispose();
      }
    }),
  );
}

/** Numbers of an output that are printed; --out writes all. */
const SHOWN = 8;

export async function run(o: OnnxRunOptions, file: string): Promise<number> {
  const path = await unpackedModel(file);
  return withGpu(o, () =>
    scoped(async () => {
      const model = OnnxModel.load(openFile(path));
      try {
        const { given, said } = inputsOf(model.graph.inputs, o.input, o.dim);
        say(o, `inputs: ${said.join('; ')}`);
        const values = await model.computeAsync(given);
        const rows: { name: string; type: string; shape: readonly number[]; data: number[] | string[] }[] = [];
        for (const [i, value] of values.entries()) {
          const name = model.graph.outputs[i];
          const found: Given = value instanceof Tensor ? { kind: 'float', shape: [...value.shape], data: (await value.data()) as Float32Array } : value;
          if (found instanceof Tensor || found.kind === 'sequence' || found.kind === 'optional')
            throw new GlimpseError(`output "${name}" is ${typeName(found as HostTensor)}, which cannot be shown or written`);
          if (o.out) {
            makeFolder(o.out);
            writeFileAtomic(join(o.out, `output_${i}.pb`), written(name, found));
          }
          rows.push({ name, type: typeName(found), shape: found.shape, data: Array.from(found.data as number[]) });
        }
        result(o, { outputs: rows }, () =>
          rows.map(
            ({ name, type, shape, data }) =>
              `${name}: ${type} [${shape}] ${data
                .slice(0, SHOWN)
                .map((value) => (typeof value === 'number' ? Number(value.toPrecision(6)) : value))
                .join(' ')}${data.length > SHOWN ? ' …' : ''}`,
          ),
        );
        return 0;
      } finally {
        model.dispose();
      }
    }),
  );
}

/** One ONNX tensor: floats as float32, whole numbers as int64, truth values as bool. */
function written(name: string, value: Exclude<Given, Tensor>): readonly Uint8Array[] {
  if (!isHost(value)) throw new GlimpseError(`output "${name}" is ${typeName(value)}, which is not written`);
  if (value.kind === 'float')
    return value.data instanceof Float64Array
      ? tensorMessage(name, ELEMENT.double, value.shape, value.data)
      : tensorMessage(name, ELEMENT.float, value.shape, Float32Array.from(value.data));
  if (value.type === 'bool') return tensorMessage(name, ELEMENT.bool, value.shape, Uint8Array.from(value.data));
  return tensorMessage(name, ELEMENT.int64, value.shape, BigInt64Array.from(Array.from(value.data), BigInt));
}

export async function profile(o: OnnxProfileOptions, file: string): Promise<number> {
  const path = await unpackedModel(file);
  return withGpu(o, (gpu) =>
    scoped(async () => {
      const model = OnnxModel.load(openFile(path));
      try {
        const { given, said } = inputsOf(model.graph.inputs, o.input, o.dim);
        say(o, `inputs: ${said.join('; ')}`);
        const step = () =>
          scoped(async () => {
            const [first] = noGrad(() => model.compute(given));
            if (first instanceof Tensor) await first.data();
          });
        const { chrome, ...found } = await profileStep(gpu, step);
        if (o.chrome) {
          writeFileAtomic(o.chrome, [chrome]);
          say(o, `trace: ${o.chrome}; open it in chrome://tracing or https://ui.perfetto.dev`);
        }
        result(o, found, () => formatStepProfile({ ...found, chrome }));
        return 0;
      } finally {
        model.dispose();
      }
    }),
  );
}
