/** Caption a photograph with a run's files. They are read in this browser; nothing is uploaded. */
import type { CaptionedPicture, RunFiles } from '../../engine/protocol.ts';
import { el, fill, reducedMotion } from '../dom.ts';
import { drawPicture } from '../parts/scene.ts';
import { keep, type Route } from '../route.ts';
import type { Session } from '../session.ts';

const WORD_MS = 700;
const PICTURE = /\.(jpe?g|png|webp|gif|avif|bmp)$/i;

/** The run that `glimpse serve` has loaded, where this page comes from it. */
async function servedRun(): Promise<(RunFiles & { name: string; bytes: number }) | null> {
  const where = document.querySelector<HTMLMetaElement>('meta[name="glimpse-run"]')?.content;
  if (!where) return null;
  const answer = await fetch(where);
  if (!answer.ok) throw new Error(`the server does not tell its run: ${answer.status}`);
  const { name, checkpoint, encoder, bytes } = (await answer.json()) as { name: string; checkpoint: string; encoder: string; bytes: number };
  const at = (path: string) => new URL(path, location.href).href;
  return { name, bytes, checkpoint: at(checkpoint), encoder: at(encoder), names: { checkpoint: `${name}, its checkpoint`, encoder: `${name}, its encoder` } };
}

/** A captioned picture: hypotheses, and the map of each word of the one that is chosen. */
function captionedView({ captions, pixels, width, height, ms }: CaptionedPicture, name: string): HTMLElement {
  const canvas = el('canvas', { class: 'photograph', role: 'img', 'aria-label': name });
  const line = el('div', { class: 'timeline' });
  let chosen = 0;
  let at = -1;
  let held = false;
  const show = (i: number) => {
    at = i;
    drawPicture(canvas, pixels, width, height, captions[chosen].words[i]?.alpha ?? null);
    for (const [k, button] of [...line.children].entries()) button.classList.toggle('on', k === i);
  };
  const hold = (i: number) => {
    held = true;
    show(i);
  };
  const choose = (index: number) => {
    chosen = index;
    fill(
      line,
      captions[index].words.map(({ word, probability }, i) =>
        el(
          'button',
          {
            class: 'word',
            title: `${(100 * probability).toFixed(0)} % likely`,
            pointerenter: () => hold(i),
            pointerleave: () => (held = false),
            focus: () => hold(i),
            click: () => show(i),
          },
          word,
        ),
      ),
    );
    for (const [i, row] of hypotheses.entries()) row.classList.toggle('on', i === index);
    show(-1);
  };
  const hypotheses = captions.map(({ text, logProb }, i) =>
    el('button', { class: 'box hypothesis', click: () => choose(i) }, text, el('small', { class: 'dim' }, `log-probability ${logProb.toFixed(2)}`)),
  );
  choose(0);
  if (!reducedMotion()) {
    const timer = setInterval(() => {
      if (!canvas.isConnected) clearInterval(timer);
      else if (!held && !document.hidden) show(at + 1 >= captions[chosen].words.length ? -1 : at + 1);
    }, WORD_MS);
  }
  return el(
    'section',
    { class: 'panel captioned' },
    el(
      'div',
      { class: 'row top' },
      canvas,
      el(
        'div',
        { class: 'grow' },
        el('p', { class: 'caption' }, el('strong', {}, captions[0].text)),
        line,
        hypotheses.length > 1 && hypotheses,
        el(
          'small',
          { class: 'dim' },
          `${name}: decoded in ${ms.decode.toFixed(0)} ms, encoded in ${ms.encode.toFixed(0)} ms, captioned in ${ms.caption.toFixed(0)} ms`,
        ),
      ),
    ),
  );
}

export async function show(root: HTMLElement, at: Route, session: Session): Promise<undefined> {
  const status = el('p', { class: 'status', role: 'status' });
  const out = el('div', { id: 'out' });
  const file = (id: string, accept: string, many = false) => el('input', { type: 'file', id, accept, multiple: many });
  const [checkpoint, encoder, pictures] = [file('checkpoint', '.safetensors'), file('encoder', '.onnx,.gz'), file('pictures', 'image/*', true)];
  const given = Number(at.values.get('beam') ?? 3);
  const beam = el('input', {
    type: 'number',
    id: 'beam',
    min: 1,
    max: 10,
    step: 1,
    value: Number.isInteger(given) && given >= 1 && given <= 10 ? given : 3,
    change: () => beam.checkValidity() && keep({ beam: beam.value }),
  });
  let loaded = false;
  const waiting: File[] = [];

  const load = async (files: RunFiles) => {
    loaded = false;
    try {
      const facts = await session.engine.run('loadRun', files, ({ text }) => fill(status, text));
      loaded = true;
      fill(
        status,
        `Loaded: ${facts.vocabulary} words, ${(facts.parameters / 1e6).toFixed(1)} million parameters, ${facts.regions} regions, ${facts.preprocessing}, ${facts.epoch} ${facts.epoch === 1 ? 'epoch' : 'epochs'} of training. Now give it a picture.`,
      );
      root.dataset.loaded = 'yes';
      await captionAll(waiting.splice(0));
    } catch (error) {
      fill(status, el('span', { class: 'wrong' }, (error as Error).message));
    }
  };
  const loadChosen = () => {
    const [weights, network] = [checkpoint.files?.[0], encoder.files?.[0]];
    if (!weights || !network) {
      fill(status, `Still needed: ${!weights ? 'a checkpoint (.safetensors)' : 'the encoder that it was trained with (.onnx or .onnx.gz)'}.`);
      return;
    }
    void load({ checkpoint: weights, encoder: network, names: { checkpoint: weights.name, encoder: network.name } });
  };
  const captionAll = async (list: readonly File[]) => {
    for (const picture of list) {
      const place = el('div', {}, el('p', { class: 'dim' }, `${picture.name} …`));
      out.prepend(place);
      try {
        fill(place, captionedView(await session.engine.run('captionPicture', { picture, name: picture.name, beam: Number(beam.value) }), picture.name));
      } catch (error) {
        fill(place, el('pre', { class: 'error' }, (error as Error).message));
      }
    }
  };
  const take = (list: readonly File[]) => {
    const chosen = list.filter(({ name, type }) => PICTURE.test(name) || type.startsWith('image/'));
    const others = list.filter((each) => !chosen.includes(each));
    for (const other of others) {
      const data = new DataTransfer();
      data.items.add(other);
      if (other.name.endsWith('.safetensors')) checkpoint.files = data.files;
      else if (/\.onnx(\.gz)?$/.test(other.name)) encoder.files = data.files;
      else fill(status, el('span', { class: 'wrong' }, `${other.name} is no picture, no .safetensors and no .onnx`));
    }
    if (others.some(({ name }) => /\.(safetensors|onnx|gz)$/.test(name))) loadChosen();
    if (loaded) void captionAll(chosen);
    else if (chosen.length > 0) {
      waiting.push(...chosen);
      fill(
        status,
        `${waiting.length} ${waiting.length === 1 ? 'picture waits' : 'pictures wait'}. Still needed: a checkpoint (.safetensors) and its encoder (.onnx or .onnx.gz).`,
      );
    }
  };
  checkpoint.addEventListener('change', loadChosen);
  encoder.addEventListener('change', loadChosen);
  pictures.addEventListener('change', () => take([...(pictures.files ?? [])]));
  const zone = el('div', {
    class: 'drop',
    dragover: (event) => event.preventDefault(),
    drop: (event) => {
      event.preventDefault();
      take([...((event as DragEvent).dataTransfer?.files ?? [])]);
    },
  });
  const label = (text: string, input: HTMLInputElement) => el('label', {}, text, input);
  fill(
    zone,
    el('p', {}, 'Drop pictures and files of a run here, or choose them:'),
    el('div', { class: 'row' }, label('checkpoint', checkpoint), label('its encoder', encoder), label('pictures', pictures), label('beam', beam)),
  );
  fill(
    root,
    el('h1', {}, 'Caption a picture'),
    el(
      'p',
      {},
      'A run is a checkpoint (',
      el('code', {}, 'checkpoints/best.safetensors'),
      ') and the ResNet-50 that it was trained with (',
      el('code', {}, '.onnx'),
      ' or ',
      el('code', {}, '.onnx.gz'),
      '). They are read in this browser, and the picture too: nothing is uploaded.',
    ),
    zone,
    status,
    out,
  );
  const served = await servedRun();
  if (served) {
    fill(status, `The run ${served.name} (${(served.bytes / 2 ** 20).toFixed(0)} MiB) is loaded from this server …`);
    void load(served);
  }
}
