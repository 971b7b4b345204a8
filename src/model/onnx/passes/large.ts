/** Weights that are larger than a kernel may bind: the product is computed in parts, by columns, which are joined. */
import { sizeOf } from '../../../tensor/shape.ts';
import { freshName, numberOf } from '../operator.ts';
import type { OnnxGraph, OnnxNode, OnnxTensor } from '../proto.ts';
import { rewritten } from './pattern.ts';

/** Columns of a matrix, or elements of a row, from `start` on; read when they are needed. */
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

/** Splits products with a constant matrix of more than `limit` bytes, which is what one binding holds. */
export function splitLargeProducts(graph: OnnxGraph, keep: (name: string) => boolean, limit: number): void {
  const replaced = new Map<OnnxNode, readonly OnnxNode[]>();
  for (const node of graph.nodes) {
    if (!['Gemm', 'MatMul', 'FusedMatMul'].includes(node.op)) continue;
    const [a, weightName, addendName = ''] = node.inputs;
    const weight = graph.initializers.get(weightName);
    if (weight?.kind !== 'float' || weight.shape.length !== 2 || 4 * sizeOf(weight.shape) <= limit || keep(weightName)) continue;
    const axis = node.op === 'Gemm' && numberOf(node, 'transB', 0) === 1 ? 0 : 1;
    const columns = weight.shape[axis];
    const addend = graph.initializers.get(addendName);
    const addendAxis = (addend?.shape.length ?? 0) - 1;
    if (addendName !== '' && (addend?.kind !== 'float' || addend.shape[addendAxis] !== columns || keep(addendName))) continue;
    const bytesOfOne = (4 * sizeOf(weight.shape)) / columns;
    const most = Math.floor(limit / bytesOfOne / 4) * 4; // whole vectors
    if (most < 4) continue;
    const parts: OnnxNode[] = [];
    for (let start = 0; start < columns; start += most) {
      const count = Math.min(most, columns - start);
      const name = (what: string): string => freshName(graph, `${node.outputs[0]}/${what} from ${start}`);
      const define = (whole: OnnxTensor, what: string, along: number): string => {
        const made = columnsOf(whole, name(what), along, start, count);
        graph.initializers.set(made.name, made);
        return made.name;
      };
      const inputs = [a, define(weight, 'weight', axis), ...(addend ? [define(addend, 'addend', addendAxis)] : [])];
      parts.push({ ...node, inputs, outputs: [name('columns')] });
    }
    const joined: OnnxNode = {
      ...{ op: 'Concat', name: node.name, inputs: parts.map(({ outputs }) => outputs[0]), outputs: node.outputs, opset: 13 },
      ...{ attributes: new Map([['axis', -1]]), kinds: new Map([['axis', 'int' as const]]) },
    };
    replaced.set(node, [...parts, joined]);
  }
  rewritten(graph, replaced);
}
