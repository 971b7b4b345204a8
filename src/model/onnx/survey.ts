/** What a model is made of, without running it: inputs, outputs, operators, weights, and what would not be supported. */
import type { ByteSource } from '../../data/bytes.ts';
import { messageOf } from '../../errors.ts';
import { sizeOf } from '../../tensor/shape.ts';
import { elementType } from './elements.ts';
import { inlineFunctions } from './functions.ts';
import { takeGradients } from './gradients.ts';
import { checkGraph } from './graph_check.ts';
import { OPERATORS } from './operators/index.ts';
import { allNodes, type OnnxGraph, type OnnxInput, readOnnx } from './proto.ts';

export interface Survey {
  opset: number;
  bytes: number;
  inputs: readonly OnnxInput[];
  outputs: readonly string[];
  /** Nodes by operator, those of graphs within nodes too; the most frequent first. */
  operators: readonly { op: string; nodes: number; supported: boolean }[];
  weights: { tensors: number; numbers: number; bytes: number; types: Readonly<Record<string, number>> };
  functions: readonly string[];
  /** The first thing that keeps the model from running; null if nothing does before it is run. */
  problem: string | null;
}

/** Reads a model's structure, and closes it. Throws a FileError if it is no ONNX file. */
export function surveyOf(source: ByteSource): Survey {
  const { graph, close } = readOnnx(source);
  try {
    return surveyed(graph);
  } finally {
    close();
  }
}

function surveyed(graph: OnnxGraph): Survey {
  let problem: string | null = null;
  try {
    inlineFunctions(graph);
  } catch (error) {
    problem = messageOf(error);
  }
  const counts = new Map<string, number>();
  for (const { op } of allNodes(graph.nodes)) counts.set(op, (counts.get(op) ?? 0) + 1);
  const weights = { tensors: 0, numbers: 0, bytes: 0, types: {} as Record<string, number> };
  for (const { shape, type = 'float' } of graph.initializers.values()) {
    const size = sizeOf(shape);
    weights.tensors++;
    weights.numbers += size;
    weights.bytes += size * (elementType(type)?.bytes ?? 0);
    weights.types[type] = (weights.types[type] ?? 0) + size;
  }
  const { opset, size, inputs, outputs, functions } = graph;
  try {
    if (problem === null) {
      takeGradients(graph);
      checkGraph(graph);
    }
  } catch (error) {
    problem = messageOf(error);
  }
  return {
    ...{ opset, bytes: size, inputs, outputs, weights, problem },
    operators: Array.from(counts, ([op, nodes]) => ({ op, nodes, supported: Object.hasOwn(OPERATORS, op) })).sort(
      (a, b) => b.nodes - a.nodes || (a.op < b.op ? -1 : 1),
    ),
    functions: [...functions.keys()],
  };
}
