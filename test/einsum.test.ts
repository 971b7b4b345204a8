/** Einstein's summation against plain loops over all labels, its gradients, and errors that name the label. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { gradcheck } from '../src/autograd/gradcheck.ts';
import * as ops from '../src/autograd/ops/index.ts';
import { Random } from '../src/random.ts';
import { placeOf, type Shape, sizeOf, stridesOf } from '../src/tensor/shape.ts';
import { scope, tensor, zeros } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

useGpu();

function drawn(shape: Shape, name: string): Float32Array {
  const random = new Random(9, name);
  return Float32Array.from({ length: sizeOf(shape) }, () => Math.fround(random.normal()));
}

/** The sum over all labels, in float64. Here a `...` is written out as letters, and the result is given. */
function loops(terms: readonly string[], result: string, operands: readonly { shape: Shape; data: Float32Array }[]): { shape: number[]; data: Float64Array } {
  const extents = new Map<string, number>();
  terms.forEach((term, i) => {
    [...term].forEach((label, axis) => {
      extents.set(label, Math.max(extents.get(label) ?? 1, operands[i].shape[axis]));
    });
  });
  const labels = [...extents.keys()];
  const all = labels.map((label) => extents.get(label) as number);
  const shape = [...result].map((label) => extents.get(label) as number);
  const data = new Float64Array(sizeOf(shape));
  const at = (term: string, own: Shape, place: number[]) =>
    stridesOf(own).reduce((sum, stride, axis) => sum + (own[axis] === 1 ? 0 : stride * place[labels.indexOf(term[axis])]), 0);
  for (let i = 0; i < sizeOf(all); i++) {
    const place = placeOf(i, all);
    data[at(result, shape, place)] += terms.reduce((product, term, k) => product * operands[k].data[at(term, operands[k].shape, place)], 1);
  }
  return { shape, data };
}

async function expectEqual(equation: string, terms: readonly string[], result: string, shapes: readonly Shape[]): Promise<void> {
  using _s = scope();
  const operands = shapes.map((shape, i) => ({ shape, data: drawn(shape, `${equation} ${i}`) }));
  const wanted = loops(terms, result, operands);
  const y = ops.einsum(
    equation,
    operands.map(({ shape, data }) => tensor(data, shape)),
  );
  expect(y.shape, equation).toEqual(wanted.shape);
  const found = await y.data();
  const size = Math.max(1, ...wanted.data.map(Math.abs));
  wanted.data.forEach((value, i) => {
    expect(Math.abs(found[i] - value), `${equation} [${i}]`).toBeLessThan(1e-5 * size);
  });
}

/** The equation, its terms and its result with `...` as letters, and the shapes. */
const EQUATIONS: [string, string[], string, Shape[]][] = [
  [
    'ij,jk->ik',
    ['ij', 'jk'],
    'ik',
    [
      [37, 41],
      [41, 67],
    ],
  ],
  [
    'ij , jk',
    ['ij', 'jk'],
    'ik',
    [
      [3, 5],
      [5, 7],
    ],
  ],
  [
    'bij,bjk->bik',
    ['bij', 'bjk'],
    'bik',
    [
      [3, 5, 7],
      [3, 7, 11],
    ],
  ],
  [
    'bhqd,bhkd->bhqk',
    ['bhqd', 'bhkd'],
    'bhqk',
    [
      [2, 3, 5, 7],
      [2, 3, 11, 7],
    ],
  ],
  ['ij->ji', ['ij'], 'ji', [[67, 3]]],
  ['ji', ['ji'], 'ij', [[3, 5]]],
  ['ii', ['ii'], '', [[71, 71]]],
  ['ii->i', ['ii'], 'i', [[71, 71]]],
  ['iji->ji', ['iji'], 'ji', [[5, 7, 5]]],
  ['iiij->j', ['iiij'], 'j', [[3, 3, 3, 5]]],
  ['ij->', ['ij'], '', [[7, 11]]],
  ['i,j->ij', ['i', 'j'], 'ij', [[67], [71]]],
  ['i,i', ['i', 'i'], '', [[71], [71]]],
  [
    'ij,ij->ij',
    ['ij', 'ij'],
    'ij',
    [
      [5, 7],
      [5, 7],
    ],
  ],
  [
    'ij,ij->i',
    ['ij', 'ij'],
    'i',
    [
      [67, 7],
      [67, 7],
    ],
  ],
  [
    'ij,kl->ki',
    ['ij', 'kl'],
    'ki',
    [
      [2, 3],
      [5, 7],
    ],
  ],
  [',i->i', ['', 'i'], 'i', [[], [5]]],
  [
    'ij,jk,kl->il',
    ['ij', 'jk', 'kl'],
    'il',
    [
      [2, 3],
      [3, 5],
      [5, 7],
    ],
  ],
  ['i,j,k,ijk->', ['i', 'j', 'k', 'ijk'], '', [[2], [3], [5], [2, 3, 5]]],
  [
    'ijk,il,jm,kn->lmn',
    ['ijk', 'il', 'jm', 'kn'],
    'lmn',
    [
      [2, 3, 4],
      [2, 5],
      [3, 6],
      [4, 7],
    ],
  ],
  [
    'ii,jj,ij->i',
    ['ii', 'jj', 'ij'],
    'i',
    [
      [3, 3],
      [5, 5],
      [3, 5],
    ],
  ],
  [
    '...ij,...jk->...ik',
    ['abij', 'bjk'],
    'abik',
    [
      [2, 3, 5, 7],
      [3, 7, 2],
    ],
  ],
  [
    '...ij,...jk',
    ['aij', 'ajk'],
    'aik',
    [
      [1, 5, 7],
      [3, 7, 2],
    ],
  ],
  ['i...->...i', ['iab'], 'abi', [[2, 3, 5]]],
  ['...i->i', ['abi'], 'i', [[2, 3, 5]]],
  [
    '...,...->...',
    ['ab', 'ab'],
    'ab',
    [
      [3, 1],
      [1, 5],
    ],
  ],
  [
    '...i,...i',
    ['ai', 'ai'],
    'a',
    [
      [1, 5],
      [1, 5],
    ],
  ],
  [
    'Ba,aB->aB',
    ['Ba', 'aB'],
    'aB',
    [
      [2, 3],
      [3, 2],
    ],
  ],
  ['aB', ['aB'], 'Ba', [[2, 3]]],
  ['abcdef->fedcba', ['abcdef'], 'fedcba', [[2, 1, 3, 2, 2, 3]]],
];

test.each(EQUATIONS)('%s', (equation, terms, result, shapes) => expectEqual(equation, terms, result, shapes));

test('property: any equation of three operands is what loops give', async () => {
  const term = fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { minLength: 0, maxLength: 3 });
  await fc.assert(
    fc.asyncProperty(fc.array(term, { minLength: 1, maxLength: 3 }), fc.subarray(['d', 'a', 'c', 'b']), async (drawnTerms, order) => {
      const terms = drawnTerms.map((labels) => labels.join(''));
      const result = order.filter((label) => terms.join('').includes(label)).join('');
      const extents: Record<string, number> = { a: 2, b: 3, c: 4, d: 5 };
      await expectEqual(
        `${terms.join(',')}->${result}`,
        terms,
        result,
        terms.map((labels) => [...labels].map((label) => extents[label])),
      );
    }),
    { numRuns: 60, seed: 11 },
  );
});

test.each([
  [
    'ij,jk->ik',
    [
      [3, 5],
      [5, 4],
    ],
  ],
  [
    'ii,ij->j',
    [
      [3, 3],
      [3, 4],
    ],
  ],
  [
    '...i,ji->...j',
    [
      [2, 3, 4],
      [5, 4],
    ],
  ],
  ['i,j,ij->', [[3], [4], [3, 4]]],
] as [string, Shape[]][])('the gradient of %s', async (equation, shapes) => {
  const inputs = shapes.map((shape, i) => ({ shape, data: drawn(shape, `gradient ${equation} ${i}`) }));
  expect(await gradcheck((...x) => ops.sum(ops.square(ops.einsum(equation, x))), inputs, { h: 1e-3 })).toMatchObject({ ok: true });
});

test('a sum over nothing is 0, and no elements give none', async () => {
  using _s = scope();
  expect([...(await ops.einsum('ij,jk->ik', [zeros([2, 0]), zeros([0, 3])]).data())]).toEqual([0, 0, 0, 0, 0, 0]);
  expect(ops.einsum('ij,jk->ik', [zeros([0, 2]), zeros([2, 3])]).shape).toEqual([0, 3]);
  expect(ops.einsum('ii->i', [zeros([0, 0])]).shape).toEqual([0]);
  expect([...(await ops.einsum('ij->ji', [tensor(Uint32Array.of(1, 2, 3, 4), [2, 2])]).data())]).toEqual([1, 3, 2, 4]);
});

describe('what does not fit is named', () => {
  test.each<[string, Shape[], string]>([
    [
      'ij,jk->ik',
      [
        [2, 3],
        [4, 5],
      ],
      'einsum "ij,jk->ik": label j is 3 in operand 1 [2,3] and 4 in operand 2 [4,5]',
    ],
    ['ii->i', [[2, 3]], 'einsum "ii->i": label i is 2 in operand 1 [2,3] and 3 in operand 1 [2,3]'],
    ['ij->ik', [[2, 3]], 'label k of the result is in no operand'],
    ['ij->ii', [[2, 3]], 'label i comes twice in the result'],
    ['ij', [[2, 3, 4]], '"ij" labels 2 axes, operand 1 [2,3,4] has 3'],
    ['...ijk', [[2, 3]], '"...ijk" labels 3 axes, operand 1 [2,3] has 2'],
    ['ij,jk', [[2, 3]], 'describes 2 operands, got 1'],
    ['i->i->i', [[2]], 'has more than one "->"'],
    ['i1', [[2, 3]], '"1" in "i1" is no letter and no "..."'],
    ['..i', [[2, 3]], '"." in "..i" is no letter and no "..."'],
    ['...i...', [[2, 3]], '"...i..." has more than one "..."'],
    [
      'i...,i...',
      [
        [1, 2],
        [1, 3],
      ],
      'what "..." stands for: [2] and [3] do not broadcast',
    ],
    [
      'abcd,efgh->abcdefgh',
      [
        [1, 1, 1, 1],
        [1, 1, 1, 1],
      ],
      'joining operands gives 8 axes, a b c d e f g h; at most 6 are supported',
    ],
  ])('%s of %j', (equation, shapes, message) => {
    using _s = scope();
    expect(() =>
      ops.einsum(
        equation,
        shapes.map((shape) => zeros(shape)),
      ),
    ).toThrow(message);
  });
});
