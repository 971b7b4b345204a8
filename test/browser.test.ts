/** The engine in a real browser: the bundle of `npm run build:web`, opened by Chromium on its software adapter. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { browserPath, temporaryFolder } from './support.ts';

const ROOT = resolve(import.meta.dirname, '..');
/** Ops whose checks run in the page: tiles, subgroups, barriers, sequences, random numbers, whole numbers. */
const CHECKED = ['matmul', 'softmax', 'crossEntropy', 'lstmCell', 'additiveAttention', 'attentionLstm', 'dropout', 'transpose'];

const PAGE = `<!doctype html><meta charset="utf-8"><title>engine</title><script type="module">
const report = {};
try {
  const { Captioner, checkOp, currentGpu, DEFAULT_WIDTHS, GpuError, gradcheck, OPS, openGpu, ops, PRESETS, scope, tensor } = await import('/glimpse.js');
  const gpu = await openGpu();
  report.adapter = gpu.description;
  report.software = gpu.software;
  report.kind = gpu.kind;
  report.width = gpu.subgroupWidth;
  report.cases = [];
  for (const op of OPS.filter(({ name }) => ${JSON.stringify(CHECKED)}.includes(name))) report.cases.push(...(await checkOp(op)));
  const own = scope();
  const { loss } = { loss: ops.sum(ops.matmul(tensor([1, 2], [1, 2]), tensor([3, 4], [2, 1]))) };
  report.product = await loss.item();
  const kernel = gpu.kernel({ file: 'unary', expressions: { f: 'no_such_function(x)' } });
  const [x, y] = [tensor([1, 2, 3, 4]), tensor([0, 0, 0, 0])];
  gpu.dispatch(kernel, [x.slice, y.slice], { count4: 1, alpha: 0, beta: 0 }, [1, 1, 1], 'broken');
  report.fault = await y.data().then(() => 'none', (error) => error instanceof GpuError && error.message);
  report.after = [...(await ops.addScalar(x, 1).data())];
  own[Symbol.dispose]();
  await gpu.close();
} catch (error) {
  report.failed = String(error?.stack ?? error);
}
await fetch('/report', { method: 'POST', body: JSON.stringify(report) });
</script>`;

interface Report {
  failed?: string;
  adapter: string;
  software: boolean;
  kind: string;
  width: number;
  product: number;
  fault: string;
  after: number[];
  cases: { op: string; version: string; case: string; status: string; reason?: string }[];
}

const folder = temporaryFolder();
const browser = browserPath('the engine was not run in a browser');
let server: Server | null = null;
let child: ChildProcess | null = null;

beforeAll(() => {
  if (browser) execFileSync(process.execPath, [join(ROOT, 'scripts/bundle_web.js')], { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] });
});

afterAll(async () => {
  server?.close();
  if (!child || child.exitCode !== null) return;
  child.removeAllListeners('exit');
  const ended = new Promise((done) => child?.once('exit', done));
  child.kill('SIGTERM'); // its helpers still write to the profile when it is killed outright
  await ended;
});

/** Serves page and bundle on this machine alone, opens the page, and waits for what it reports. */
function opened(path: string): Promise<Report> {
  return new Promise((done, fail) => {
    const served = createServer((request, response) => {
      if (request.method === 'POST') {
        const parts: Buffer[] = [];
        request.on('data', (part) => parts.push(part));
        request.on('end', () => {
          response.end();
          done(JSON.parse(Buffer.concat(parts).toString()));
        });
        return;
      }
      const isModule = request.url === '/glimpse.js';
      response.setHeader('Content-Type', isModule ? 'text/javascript' : 'text/html');
      response.end(isModule ? readFileSync(join(ROOT, 'dist/web/glimpse.js')) : PAGE);
    });
    server = served;
    served.listen(0, '127.0.0.1', () => {
      const { port } = served.address() as AddressInfo;
      const options = [
        '--headless',
        '--no-sandbox',
        '--enable-unsafe-webgpu',
        '--use-webgpu-adapter=swiftshader',
        `--user-data-dir=${join(folder, 'profile')}`,
      ];
      child = spawn(path, [...options, `http://127.0.0.1:${port}/`], { stdio: 'ignore' });
      child.on('error', fail);
      child.on('exit', (code) => fail(new Error(`the browser ended (${code}) before the page reported`)));
    });
  });
}

test.skipIf(!browser)(
  'the self-test passes there, and a fault is named',
  async () => {
    const report = await opened(browser as string);
    expect(report.failed).toBeUndefined();
    expect(report).toMatchObject({ software: true, kind: 'swiftshader', product: 11, after: [2, 3, 4, 5] });
    expect(report.fault).toMatch(/compiling unary[\s\S]*no_such_function/);
    expect(report.cases.filter(({ status }) => status === 'failed')).toEqual([]);
    for (const op of CHECKED)
      expect(
        report.cases.some((each) => each.op === op && each.status === 'passed'),
        op,
      ).toBe(true);
    const passed = report.cases.filter(({ status }) => status === 'passed').length;
    console.log(`${report.adapter}, subgroups of ${report.width}: ${passed} of ${report.cases.length} cases passed, the others cannot run there`);
  },
  300_000,
);
