/** Every op has an equation that can be typeset, and a gradient where the table has one. */
import temml from 'temml';
import { expect, test } from 'vitest';
import { OPS } from '../src/autograd/ops/index.ts';
import { OP_EQUATIONS } from '../src/study/op_equations.ts';

test.each(OPS.map((op) => [op.name, op] as const))('%s', (name, op) => {
  const equation = OP_EQUATIONS[name];
  expect(equation, `${name} has no equation`).toBeDefined();
  for (const tex of [equation.forward, equation.gradient ?? 'x'])
    expect(() => temml.renderToString(tex, { throwOnError: true, strict: true }), tex).not.toThrow();
  expect(equation.gradient !== undefined, `${name}: a gradient where the table has one, and only there`).toBe(typeof op.backward === 'function');
});

test('no equation is of an op that there is not', () => {
  expect(Object.keys(OP_EQUATIONS).filter((name) => !OPS.some((op) => op.name === name))).toEqual([]);
});
