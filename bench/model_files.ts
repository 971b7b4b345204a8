/**
 * The files of `--model`: which model each holds, told by its graph. A benchmark counts the operations of one model: with a file of
 * another, the numbers beside its time would be wrong.
 */
import { existsSync } from 'node:fs';
import { openFile } from '../src/data/file_source.ts';
import { FileError, UsageError } from '../src/errors.ts';
import { unpackedModel } from '../src/model/encoder/encoder.ts';
import { inlineFunctions } from '../src/model/onnx/functions.ts';
import { resolvePassThrough } from '../src/model/onnx/passes/index.ts';
import { allNodes, type OnnxGraph, readOnnx } from '../src/model/onnx/proto.ts';
import { sizeOf } from '../src/tensor/shape.ts';
import type { ModelFile, ModelName } from './catalog.ts';

/** The graph of a model's file, .onnx or .onnx.gz: constants are initializers, and no node only passes a value on. */
export async function openGraph(path: string): Promise<{ graph: OnnxGraph; close(): void }> {
  const { graph, close } = readOnnx(openFile(await unpackedModel(path)));
  try {
    inlineFunctions(graph);
    resolvePassThrough(graph);
    return { graph, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** What tells the models apart from all others. */
interface Traits {
  convolutions: number;
  /** Weights of all convolutions. */
  kernels: number;
  /** Attention nodes, or softmax nodes, which attention is made of in older files. */
  attentions: number;
  /** Whether a weight has these extents, in either order, and no other above 1. */
  hasWeight(a: number, b: number): boolean;
}

const RECOGNIZED: Readonly<Record<ModelName, (traits: Traits) => boolean>> = {
  resnet50: ({ convolutions, kernels, hasWeight }) => convolutions === 53 && kernels === 23_454_912 && hasWeight(2048, 1000),
  'vit-b-16': ({ convolutions, kernels, attentions, hasWeight }) =>
    convolutions === 1 && kernels === 16 * 16 * 3 * 768 && attentions === 12 && hasWeight(197, 768) && hasWeight(768, 1000),
};
const TITLES: Readonly<Record<ModelName, string>> = { resnet50: 'ResNet-50', 'vit-b-16': 'ViT-B/16' };

function traitsOf({ nodes, initializers }: OnnxGraph): Traits {
  const all = [...allNodes(nodes)];
  const convolutions = all.filter(({ op }) => op === 'Conv');
  const kernels = convolutions.map(({ inputs }) => initializers.get(inputs[1])?.shape ?? [0]);
  const matrices = new Set(Array.from(initializers.values(), ({ shape }) => shape.filter((extent) => extent !== 1).join()));
  return {
    convolutions: convolutions.length,
    kernels: kernels.reduce((sum, shape) => sum + sizeOf(shape), 0),
    attentions: all.filter(({ op }) => op === 'Softmax' || op === 'Attention').length,
    hasWeight: (a, b) => matrices.has(`${a},${b}`) || matrices.has(`${b},${a}`),
  };
}

async function recognized(path: string): Promise<ModelFile> {
  const { graph, close } = await openGraph(path);
  close();
  const traits = traitsOf(graph);
  const name = (Object.keys(RECOGNIZED) as ModelName[]).find((each) => RECOGNIZED[each](traits));
  if (!name) {
    const found = `${traits.convolutions} convolutions with ${traits.kernels} weights and ${traits.attentions} nodes of attention or softmax`;
    throw new FileError(path, `holds neither ${Object.values(TITLES).join(' nor ')} with float weights and 1000 classes, which are timed: it has ${found}`);
  }
  const [input, ...others] = graph.inputs;
  const extents = input?.shape ?? [];
  const takesPictures =
    others.length === 0 && (extents.length === 0 || (extents.length === 4 && [3, 224, 224].every((e, i) => [e, -1].includes(extents[i + 1]))));
  if (!input || !takesPictures)
    throw new FileError(path, `takes ${graph.inputs.map((each) => `${each.name} [${each.shape}]`).join(', ') || 'nothing'}, and not pictures [N, 3, 224, 224]`);
  return { name, path, images: (extents[0] ?? -1) > 0 ? extents[0] : null };
}

/** The models that files hold. Throws a FileError for a file of another model, and a UsageError for two files of one model. */
export async function recognizedModels(paths: readonly string[]): Promise<ModelFile[]> {
  const files: ModelFile[] = [];
  for (const path of paths) {
    if (!existsSync(path)) throw new UsageError(`--model ${path}: no such file`);
    const file = await recognized(path);
    const other = files.find(({ name }) => name === file.name);
    if (other) throw new UsageError(`--model ${other.path} and --model ${path} both hold ${TITLES[file.name]}: a run times one file of each model`);
    files.push(file);
  }
  return files;
}
