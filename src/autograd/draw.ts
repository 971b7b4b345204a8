/** Draws the operands of an op's cases: by a word for the kind, the same for a random seed on every host. */
import type { Random } from '../random.ts';
import { type Shape, sizeOf } from '../tensor/shape.ts';
import { type Reference, reference } from './op.ts';

const DRAW = /^(?<name>\w+)(:(?<bound>\d+))?( plus (?<offset>\S+))?( with (?<guest>\S+))?$/;

/** Draws values of a kind that `OpCase.draw` describes. */
export function drawn(kind: string, shape: Shape, random: Random): Reference {
  const { name, bound, offset, guest } = DRAW.exec(kind)?.groups ?? {};
  const values = drawPlain(name ?? kind, Number(bound), shape, random);
  if (offset) values.data = values.data.map((value) => Math.fround(value + Number(offset)));
  if (guest) values.data[random.integer(values.data.length)] = Number(guest);
  return values;
}

function drawPlain(name: string, bound: number, shape: Shape, random: Random): Reference {
  switch (name) {
    case 'normal':
      return reference(shape, () => Math.fround(random.normal()));
    case 'positive':
      return reference(shape, () => Math.fround(random.uniform(0.5, 2)));
    case 'unit':
      return reference(shape, () => Math.fround(random.uniform()));
    case 'mask':
      return reference(shape, () => (random.uniform() < 0.3 ? 0 : Math.fround(random.uniform(0.1, 2))));
    case 'outliers':
      return reference(shape, () => Math.fround(random.uniform() < 0.05 ? 30 * Math.sign(random.uniform(-1, 1)) : random.normal()));
    case 'distinct': {
      const order = random.permutation(sizeOf(shape));
      return reference(shape, (i) => Math.fround(0.01 * (order[i] - order.length / 2)));
    }
    case 'halves': {
      const finite = () => random.integer(2) * 0x8000 + random.integer(0x7c00);
      return reference(shape, () => finite() * 0x10000 + finite());
    }
    case 'ids':
      return reference(shape, () => random.integer(bound));
    default:
      throw new Error(`no way to draw "${name}"`);
  }
}
