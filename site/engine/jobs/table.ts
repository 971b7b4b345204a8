/** The op table, the families and the exercises as plain data, for pages that list them. It needs no device. */
import { catalog, KERNEL_BENCHMARKS } from '../../../bench/catalog.ts';
import { OPS } from '../../../src/autograd/ops/index.ts';
import { FAMILIES } from '../../../src/kernels/families.ts';
import { startText } from '../../../src/kernels/user_shader.ts';
import { SHADERS } from '../../../src/platform/web/bundle.js';
import { EXERCISES, HUNTS, sheets } from '../../../src/study/exercises.ts';
import type { Jobs } from '../protocol.ts';

const TEXTS = import.meta.glob<string>('../../../src/study/exercises/*', { query: '?raw', import: 'default', eager: true });

const textOf = (file: string) => TEXTS[`../../../src/study/exercises/${file}`];

export function table(): Jobs['table']['result'] {
  return {
    ops: OPS.map((op) => ({
      ...{ name: op.name, doc: op.doc ?? { equation: '', tensors: {}, example: '' }, inputs: op.inputs, outputs: op.outputs },
      ...{ family: op.family ?? null, gradientFamilies: op.gradientFamilies ?? [] },
      withoutGradient: typeof op.backward === 'string' ? op.backward : null,
      cases: op.cases.map(({ name, shapes, attrs, draw }) => ({
        ...{ name, shapes: shapes.map((shape) => [...shape]), draw: draw ? [...draw] : null },
        attrs: JSON.parse(JSON.stringify(attrs ?? null)),
      })),
    })),
    families: Object.values(FAMILIES).map((family) => ({
      name: family.name,
      versions: family.versions.map(({ name, idea, shader, composed }) => ({ name, idea, shader, composed: composed === true })),
      benchmark: KERNEL_BENCHMARKS.find((each) => each.family === family.name) ?? null,
    })),
    benchmarks: [...new Set(catalog().map(({ name }) => name))],
    exercises: [...EXERCISES, ...HUNTS].map((exercise) => ({
      ...{ number: exercise.number, title: exercise.title, chapter: exercise.chapter, hint: exercise.hint },
      parts: sheets(
        exercise,
        textOf,
        (family, version) => startText(family, version, SHADERS[family.named(version).shader]),
        (shader) => SHADERS[shader],
      ),
    })),
  };
}
