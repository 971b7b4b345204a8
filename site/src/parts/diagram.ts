/** The captioner for one word as a diagram: an equation a box, an arrow where one reads what another wrote. Backward, arrows turn round. */

interface Place {
  key: string;
  text: string;
  column: number;
  row: number;
  /** Keys that it reads; a dot behind a key means: of the word before. */
  reads: readonly string[];
}

const Q = 'q = s W2 + b2';
const LOOK = 'α = softmax(vᵀ f(K + q)), z = Σ α a';
const GATE = 'β = σ(s w + b), ẑ = β z';
const CELL1 = 'h1, c1 = cell(xe + p, c1)';
const CELL2 = 'h2, c2 = cell(r + r2, c2)';

const place = (key: string, text: string, column: number, row: number, ...reads: string[]): Place => ({ key, text, column, row, reads });

/** Boxes of the stacked LSTM decoder. Those that a run does not have are left out. */
const PLACES: readonly Place[] = [
  place('a', 'a = ReLU(X Wₑ + bₑ)', 0, 0),
  place('K', 'K = a W₁ + b₁', 1, 0, 'a'),
  place('mean', 'ā = mean of a', 0, 1, 'a'),
  place('start', 'h₀, c₀ = tanh(ā Wₛ + bₛ)', 0, 2, 'mean'),
  place(Q, 'q = h² W₂ + b₂', 1, 1, 'start', `${CELL2}.`),
  place(LOOK, 'α = softmax(vᵀ tanh(K + q)), z = Σ α a', 2, 0, 'K', Q),
  place(GATE, 'ẑ = σ(h² w + b) z', 2, 1, LOOK),
  place('Emb', 'E = Emb[the word before]', 0, 3),
  place('xe', 'xe = E W + b', 1, 3, 'Emb'),
  place('p = ẑ Wz', 'p = ẑ W_z', 3, 0, GATE, LOOK),
  place('p += h1 U1', 'p += h¹ U₁', 3, 1, 'p = ẑ Wz', `${CELL1}.`),
  place(CELL1, 'h¹, c¹ = cell(xe + p, c¹)', 3, 2, 'xe', 'p += h1 U1'),
  place('r = h1 W + b', 'r = h¹ W + b', 3, 3, CELL1),
  place('r2 = h2 U2', 'r′ = h² U₂', 2, 2, `${CELL2}.`),
  place(CELL2, 'h², c² = cell(r + r′, c²)', 2, 3, 'r = h1 W + b', 'r2 = h2 U2'),
  place('logits', 'ℓ = h² Wₒ + bₒ', 2, 4, CELL2),
  place('L', 'L = −log softmax(ℓ)[word]', 3, 4, 'logits'),
];

const BOX = { width: 232, height: 40, across: 262, down: 74 };
const SVG = 'http://www.w3.org/2000/svg';

function node<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Readonly<Record<string, string | number>>,
  ...children: (Node | string)[]
): SVGElementTagNameMap[K] {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

/** From the edge of one box towards the middle of another: where the line between their middles leaves the box. */
function edgeOf(from: Place, to: Place): [number, number] {
  const [x, y] = [from.column * BOX.across + BOX.width / 2, from.row * BOX.down + BOX.height / 2];
  const [dx, dy] = [(to.column - from.column) * BOX.across, (to.row - from.row) * BOX.down];
  const scale = Math.min(BOX.width / 2 / Math.max(1, Math.abs(dx)), BOX.height / 2 / Math.max(1, Math.abs(dy)));
  return [x + dx * scale, y + dy * scale];
}

/** `has` tells whether the run has an equation; `chosen` is the one that is shown; `backward` turns the arrows round. */
export function diagram(has: (key: string) => boolean, chosen: string, backward: boolean, choose: (key: string) => void): SVGSVGElement {
  const there = PLACES.filter(({ key }) => has(key));
  const byKey = new Map(there.map((each) => [each.key, each]));
  const [width, height] = [3 * BOX.across + BOX.width + 20, 4 * BOX.down + BOX.height + 20];
  const root = node('svg', { viewBox: `-10 -10 ${width} ${height}`, class: 'diagram', role: 'group', 'aria-label': 'the captioner for one word' });
  root.append(
    node(
      'defs',
      {},
      node(
        'marker',
        { id: 'head', viewBox: '0 0 8 8', refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: 'auto-start-reverse' },
        node('path', { d: 'M0 0 L8 4 L0 8 z' }),
      ),
    ),
  );
  const hasGate = byKey.has(GATE);
  for (const to of there)
    for (const name of to.reads) {
      const before = name.endsWith('.');
      const from = byKey.get(before ? name.slice(0, -1) : name);
      if (!from || (hasGate && to.key === 'p = ẑ Wz' && from.key === LOOK)) continue;
      const [[x1, y1], [x2, y2]] = [edgeOf(from, to), edgeOf(to, from)];
      const ends: Record<string, string> = backward ? { 'marker-start': 'url(#head)' } : { 'marker-end': 'url(#head)' };
      root.append(node('line', { x1, y1, x2, y2, class: before ? 'arrow before' : 'arrow', ...ends }));
    }
  for (const { key, text, column, row } of there) {
    const [x, y] = [column * BOX.across, row * BOX.down];
    const box = node(
      'g',
      { class: key === chosen ? 'equation-box on' : 'equation-box', tabindex: 0, role: 'button', 'data-key': key, 'aria-label': text },
      node('rect', { x, y, width: BOX.width, height: BOX.height, rx: 6 }),
      node(
        'text',
        {
          x: x + BOX.width / 2,
          y: y + BOX.height / 2 + 5,
          'text-anchor': 'middle',
          ...(text.length > 34 ? { textLength: BOX.width - 12, lengthAdjust: 'spacingAndGlyphs' } : {}),
        },
        text,
      ),
    );
    box.addEventListener('click', () => choose(key));
    box.addEventListener('keydown', ({ key: pressed }) => {
      if (pressed === 'Enter' || pressed === ' ') choose(key);
    });
    root.append(box);
  }
  return root;
}
