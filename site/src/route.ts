/** All state is in the URL, behind the #: the page, a part of it, and parameters. Links therefore carry everything, on any host. */
import { gathered } from '../engine/stream.ts';

export interface Route {
  page: string;
  part: string;
  values: URLSearchParams;
}

/** A damaged text stands as it is: the page will say that it has no such part. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function route(): Route {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const [page = '', ...rest] = path.split('/');
  return { page: page || 'front', part: decoded(rest.join('/')), values: new URLSearchParams(query) };
}

/** The link to a page with these parameters; null and '' leave one out. */
export function linkTo(page: string, values: Readonly<Record<string, string | number | null>> = {}, part = ''): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== null && value !== '') query.set(name, String(value));
  const text = query.toString();
  return `#/${page === 'front' ? '' : page}${part ? `/${encodeURIComponent(part)}` : ''}${text ? `?${text}` : ''}`;
}

/** Notes parameters in the URL without showing another page. */
export function keep(values: Readonly<Record<string, string | number | null>>): void {
  const { page, part, values: now } = route();
  const all = { ...Object.fromEntries(now), ...values };
  history.replaceState(null, '', linkTo(page, all, part));
}

const toUrl = (bytes: Uint8Array): string =>
  btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replace(/=+$/, '');
const fromUrl = (text: string): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (letter) => letter.charCodeAt(0));

const through = (bytes: Uint8Array<ArrayBuffer>, stream: CompressionStream | DecompressionStream): Promise<Uint8Array<ArrayBuffer>> =>
  gathered(new Blob([bytes]).stream().pipeThrough(stream), MOST, `the text in the link is longer than ${MOST} bytes`);

/** Longest text that a link may hold, unpacked: no shader is as long. */
const MOST = 1 << 18;

/** A text as a parameter of a link, compressed. */
export async function packed(text: string): Promise<string> {
  return toUrl(await through(new TextEncoder().encode(text), new CompressionStream('deflate-raw')));
}

/** The text of a parameter. Throws where a link is damaged or too long. */
export async function unpacked(text: string): Promise<string> {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(await through(fromUrl(text), new DecompressionStream('deflate-raw')));
  } catch (error) {
    throw new Error(`the link holds no text that can be read (${error instanceof Error ? error.message : String(error)})`);
  }
}
