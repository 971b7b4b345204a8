/**
 * Weights that are larger than a kernel may bind: the product is computed in parts, by columns, which are joined; a convolution by
 * output channels.
 */
import { sizeOf } from '../../../tensor/shape.ts';
import { freshName, numberOf } from '../operator.ts';
import type { OnnxGraph, OnnxNode, OnnxTensor } from '../proto.ts';
import type { HostTensor } from '../values.ts';
import { rewritten } from './pattern.ts';

/** A tensor that `readers` parts are taken from: it is read once for all of them. */
function readOnce(whole: OnnxTensor, readers: number): OnnxTensor {
  let [held, left]: [HostTensor | null, number] = [null, 0];
  return {
    ...whole,
    load: () => {
      const host = held ?? whole.load();
      left = (held ? left : readers) - 1;
      held = left > 0 ? host : null;
      return host;
    },
  };
}

/** Columns of a matrix, elements of a row, or channels of a convolution's weight, from `start` on; read when they are needed. */
function columnsOf(whole: OnnxTensor, name: string, axis: number, start: number, count: number): OnnxTensor {
  const shape = whole.shape.with(axis, count);
  const inner = sizeOf(whole.shape.slice(axis + 1));
  const [row, part] = [whole.shape[axis] * inner, count * inner];
  return {
    ...{ name, kind: 'float', shape, type: whole.type },
    load: () => {
      const host = whole.load();
      const all = host.data instanceof Float32Array ? host.data : Float32Array.from(host.data);
      const data = new Float32Array(sizeOf(shape));
      for (let at = 0, from = start * inner; at < data.length; at += part, from += row) data.set(all.subarray(from, from + part), at);
      return { kind: 'float', type: host.type, shape, data };
    },
  };
}

/** Where a node's weight has the columns of its result, and where the result has them; null if it cannot be computed in parts. */
function columnAxes(node: OnnxNode, weight: OnnxTensor): { ofWeight: number; ofResult: number } | null {
  if (node.op === 'Conv' || node.op === 'FusedConv') {
    const isAlone = numberOf(node, 'group', 1) === 1 && !node.inputs[3]; // no sum with another value
    return isAlone && weight.shape.length > 2 ? { ofWeight: 0, ofResult: 1 } : null;
  }
  if (!['Gemm', 'MatMul', 'FusedMatMul'].includes(node.op) || weight.shape.length !== 2) return null;
  return { ofWeight: node.op === 'Gemm' && numberOf(node, 'transB', 0) === 1 ? 0 : 1, ofResult: -1 };
}

/** Splits products and convolutions with a constant weight of more than `limit` bytes, which is what one binding holds. */
export function splitLargeProducts(graph: OnnxGraph, keep: (name: string) => boolean, limit: number): void {
  const replaced = new Map<OnnxNode, readonly OnnxNode[]>();
  for (const node of graph.nodes) {
    const [a, weightName, addendName = ''] = node.inputs;
    const weight = graph.initializers.get(weightName);
    if (weight?.kind !== 'float' || 4 * sizeOf(weight.shape) <= limit || keep(weightName)) continue;
    const axes = columnAxes(node, weight);
    if (!axes) continue;
    const columns = weight.shape[axes.ofWeight];
    const addend = graph.initializers.get(addendName);
    const addendAxis = (addend?.shape.length ?? 0) - 1;
    if (addendName !== '' && (addend?.kind !== 'float' || addend.shape[addendAxis] !== columns || keep(addendName))) continue;
    const bytesOfOne = (4 * sizeOf(weight.shape)) / columns;
    const bytes = axes.ofResult === 1 ? limit / 2 : limit; // kernels of convolutions take copies in panels, which are wider
    const most = Math.floor(bytes / bytesOfOne / 4) * 4; // whole vectors
    if (most < 4) continue;
    const source = readOnce(weight, Math.ceil(columns / most));
    const parts: OnnxNode[] = [];
    for (let start = 0; start < columns; start += most) {
      const count = Math.min(most, columns - start);
      const name = (what: string): string => freshName(graph, `${node.outputs[0]}/${what} from ${start}`);
      const define = (whole: OnnxTensor, what: string, along: number): string => {
        const made = columnsOf(whole, name(what), along, start, count);
        graph.initializers.set(made.name, made);
        return made.name;
      };
      const inputs = [a, define(source, 'weight', axes.ofWeight), ...(addend ? [define(addend, 'addend', addendAxis)] : [])];
      parts.push({ ...node, inputs, outputs: [name('columns')] });
    }
    const joined: OnnxNode = {
      ...{ op: 'Concat', name: node.name, inputs: parts.map(({ outputs }) => outputs[0]), outputs: node.outputs, opset: 13 },
      ...{ attributes: new Map([['axis', axes.ofResult]]), kinds: new Map([['axis', 'int' as const]]) },
    };
    replaced.set(node, [...parts, joined]);
  }
  rewritten(graph, replaced);
}
