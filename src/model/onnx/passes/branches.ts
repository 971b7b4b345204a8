/** Branches that constants decide: the nodes of the branch stand in the place of its If. */
import { freshName } from '../operator.ts';
import type { OnnxGraph, OnnxNode } from '../proto.ts';
import { renamedWithin } from '../subgraphs.ts';
import { typeOf } from '../values.ts';
import { fusedNode } from './layers.ts';

/** The branch that an If takes in every run; null if only a run tells, perhaps by pictures of another size than the file states. */
function branchOf(graph: OnnxGraph, node: OnnxNode, stated: ReadonlySet<string>): OnnxGraph | null {
  if (stated.has(node.inputs[0])) return null;
  const condition = node.op === 'If' ? graph.initializers.get(node.inputs[0]) : undefined;
  if (condition?.kind !== 'int' || condition.shape.some((extent) => extent !== 1)) return null;
  const truth = condition.load();
  if (typeOf(truth).name !== 'bool') return null;
  const branch = node.attributes.get(truth.data[0] === 0 ? 'else_branch' : 'then_branch') as OnnxGraph;
  return branch.outputs.length === node.outputs.length ? branch : null; // a run refuses it
}

/**
 * Puts branches in the place of every If that a constant decides, but for those in `stated`: constants that hold extents which the
 * file states. Returns whether there were any.
 */
export function takeBranches(graph: OnnxGraph, stated: ReadonlySet<string>): boolean {
  let isAny = false;
  graph.nodes = graph.nodes.flatMap((node) => {
    const branch = branchOf(graph, node, stated);
    if (!branch) return [node];
    isAny = true;
    // Another branch may have the same names.
    const made = [...branch.initializers.keys(), ...branch.nodes.flatMap(({ outputs }) => outputs)].filter(Boolean);
    const names = new Map(made.map((name) => [name, freshName(graph, `${node.name || node.outputs[0]}/${name}`)]));
    const renamed = (name: string): string => names.get(name) ?? name;
    for (const [name, tensor] of branch.initializers) graph.initializers.set(renamed(name), { ...tensor, name: renamed(name) });
    return [
      ...branch.nodes.map((each) => ({ ...renamedWithin(each, names), inputs: each.inputs.map(renamed), outputs: each.outputs.map(renamed) })),
      ...node.outputs.flatMap((name, i) => {
        const same = fusedNode(node, 'Identity', node.opset, [renamed(branch.outputs[i])]);
        return name === '' ? [] : [{ ...same, outputs: [name] }];
      }),
    ];
  });
  return isAny;
}
