/** `glimpse serve`: the site with a run loaded, and a small JSON API, on this machine unless told otherwise. */
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { basename } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import rawBody from 'raw-body';
import sirv from 'sirv';
import { FileError, GlimpseError, messageOf } from '../errors.ts';
import { Captioner } from '../model/captioner/captioner.ts';
import { openEncoderOf, unpackedModel } from '../model/encoder/encoder.ts';
import { visionFiles } from '../model/encoder/hugging_face.ts';
import { resolveCheckpoint } from '../model/training/checkpoint.ts';
import { vocabularyOf } from '../model/training/checkpoint_format.ts';
import { Busy, CaptionService } from './caption_service.ts';
import type { ServeOptions } from './commands/serve.ts';
import { checkDecoding, decodingOf, openNeighbors } from './decoding.ts';
import { result, say } from './output.ts';
import { checkpointAt, withGpu } from './session.ts';

/** Two folders up from the sources, one from what was built of them. */
const SITE = ['../../dist/site/', '../../site/'].map((path) => fileURLToPath(new URL(path, import.meta.url))).find((path) => existsSync(`${path}index.html`));

/** An answer that is no result: its status, and what the client can do. */
class Refusal extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly headers: Readonly<Record<string, string>> = {},
  ) {
    super(message);
  }
}

function answer(response: ServerResponse, status: number, value: unknown, headers: Readonly<Record<string, string>> = {}): void {
  response.writeHead(status, { 'Content-Type': 'application/json; charset=utf-8', 'X-Content-Type-Options': 'nosniff', ...headers });
  response.end(`${JSON.stringify(value)}\n`);
}

/** Pages of other sites must not use what listens on this machine: their requests carry another origin, or another host. */
function checkOrigin({ headers }: IncomingMessage, isLocal: boolean): void {
  const { host = '', origin } = headers;
  if (isLocal && !/^(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/.test(host)) throw new Refusal(403, `the host "${host}" is not this machine`);
  if (origin !== undefined && origin !== `http://${host}` && origin !== `https://${host}`) throw new Refusal(403, `a page of ${origin} may not ask here`);
}

async function bodyOf(request: IncomingMessage, most: number): Promise<Buffer> {
  const type = request.headers['content-type'] ?? '';
  if (/^multipart\//.test(type)) throw new Refusal(415, 'send the picture itself as the body: curl --data-binary @picture.jpg');
  try {
    return await rawBody(request, { limit: most, length: request.headers['content-length'] });
  } catch (error) {
    const status = (error as { statusCode?: number }).statusCode ?? 400;
    throw new Refusal(status, status === 413 ? `the picture is larger than ${(most / 2 ** 20).toFixed(1)} MB` : messageOf(error), { Connection: 'close' });
  }
}

function asRefusal(error: unknown, timeout: number): Refusal {
  if (error instanceof Refusal) return error;
  if (error instanceof Busy) return new Refusal(503, error.message, { 'Retry-After': '1' });
  if (error instanceof FileError) return new Refusal(415, error.message);
  if ((error as Error)?.name === 'TimeoutError') return new Refusal(504, `no answer within ${timeout} s`);
  return new Refusal(500, messageOf(error));
}

/** Resolves at Ctrl-C or a request to end. */
function ended(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
  });
}

export async function serve(o: ServeOptions, modelPath: string): Promise<number> {
  checkDecoding(o);
  const path = resolveCheckpoint(modelPath);
  const checkpoint = checkpointAt(o, path);
  const asked = decodingOf(o, checkpoint.config);
  const given = o.encoder ?? checkpoint.encoder.path;
  // The page computes with a graph that is one file.
  const encoderPath = visionFiles(given) ? null : await unpackedModel(given);
  return withGpu(o, async (gpu) => {
    const encoder = await openEncoderOf(checkpoint, o.encoder);
    const model = Captioner.fromWeights(checkpoint.config.sizes, checkpoint.config.options, checkpoint.weights);
    const neighbors = openNeighbors(o, checkpoint);
    const service = new CaptionService(encoder, model, vocabularyOf(checkpoint), { asked, neighbors, batch: o.batch, queue: o.queue });
    const files: Readonly<Record<string, string>> = encoderPath ? { checkpoint: path, encoder: encoderPath } : {};
    const name = basename(modelPath);
    const run = encoderPath && {
      ...{ name, adapter: gpu.description, checkpoint: 'run/checkpoint', encoder: 'run/encoder' },
      bytes: statSync(path).size + statSync(encoderPath).size,
    };
    if (!run) say(o, 'the page cannot load this run, whose encoder is no ONNX file; POST /caption is served');
    const pages = SITE ? sirv(SITE, { dev: true, extensions: [] }) : null; // dev: files may be built anew while it runs
    const isLocal = ['127.0.0.1', '::1', 'localhost'].includes(o.host);
    const timeoutMs = Math.ceil(o.timeout * 1000);
    let captioned = 0;
    let underWay = 0;
    let uploading = 0;

    const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
      checkOrigin(request, isLocal);
      const { pathname } = new URL(request.url ?? '/', 'http://localhost');
      const { method = 'GET' } = request;
      if (pathname === '/caption') {
        if (method !== 'POST') throw new Refusal(405, 'POST a picture here: curl --data-binary @picture.jpg', { Allow: 'POST' });
        const begun = performance.now();
        // Bodies that are read count, too: they are what takes memory.
        if (uploading + service.load >= o.queue) throw new Busy(`${o.queue} pictures wait already`);
        uploading++;
        const bytes = await bodyOf(request, o.maxMb * 2 ** 20).finally(() => uploading--);
        if (bytes.length === 0) throw new Refusal(400, 'the body is empty: curl --data-binary @picture.jpg');
        const found = await service.caption('the picture', bytes, AbortSignal.timeout(timeoutMs));
        captioned++;
        answer(response, 200, { ...found, ms: Math.round(performance.now() - begun) });
        return;
      }
      if (method !== 'GET' && method !== 'HEAD') throw new Refusal(405, `${method} is not answered here`, { Allow: 'GET, HEAD' });
      if (pathname === '/run.json') {
        if (!run) throw new Refusal(404, 'the encoder of this run is no ONNX file, which a page could load; POST /caption is there');
        return answer(response, 200, run);
      }
      const file = files[/^\/run\/(\w+)$/.exec(pathname)?.[1] ?? ''];
      if (file) {
        response.writeHead(200, { 'Content-Type': 'application/octet-stream', 'Content-Length': statSync(file).size });
        await pipeline(createReadStream(file), response).catch(() => response.destroy()); // the client may have left
        return;
      }
      if (!SITE || !pages) throw new Refusal(404, 'the page is not built: npm run site -- --build; POST /caption is there');
      if (pathname === '/' || pathname === '/index.html') {
        response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' });
        const html = readFileSync(`${SITE}index.html`, 'utf8');
        response.end(run ? html.replace('<head>', '<head><meta name="glimpse-run" content="run.json">') : html);
        return;
      }
      pages(request, response, () => answer(response, 404, { error: `there is no ${pathname}` }));
    };

    const server = createServer((request, response) => {
      underWay++;
      response.on('close', () => underWay--);
      handle(request, response).catch((error: unknown) => {
        const { status, message, headers } = asRefusal(error, o.timeout);
        if (status >= 500 && status !== 503) say(o, `${request.method} ${request.url}: ${message}`);
        if (response.headersSent) response.destroy();
        else answer(response, status, { error: message }, headers);
      });
    });
    server.requestTimeout = timeoutMs;
    const end = ended();
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(new GlimpseError(`cannot listen at ${o.host}:${o.port}: ${messageOf(error)}`)));
      server.listen(o.port, o.host, resolve);
    });
    const { port } = server.address() as AddressInfo;
    const url = `http://${o.host.includes(':') ? `[${o.host}]` : o.host}:${port}/`;
    if (!SITE) say(o, 'the page is not built (npm run site -- --build); POST /caption is served');
    result(o, { url, run: name, adapter: gpu.description, page: SITE !== undefined }, () => `${url}${SITE && run ? '#/caption' : 'caption'}  (Ctrl-C ends)`);
    await end;
    say(o, 'ending: what was asked is still answered');
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    // Connections on which nothing was asked, or an upload stalls, must not keep it from ending.
    const until = performance.now() + timeoutMs;
    while (underWay > 0 && performance.now() < until) await new Promise((resolve) => setTimeout(resolve, 20));
    await service.drained();
    server.closeAllConnections();
    await closed;
    say(o, `${captioned} pictures were captioned, ${service.largestBatch} together at most`);
    model.dispose();
    neighbors?.dispose();
    encoder.dispose();
    return 0;
  });
}
