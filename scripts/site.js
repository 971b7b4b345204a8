// The study site: builds it, and serves it on this machine.
//
//   npm run site                         builds, then serves on http://127.0.0.1:4173 (--port N for another one)
//   npm run site -- --build [FOLDER]     writes the static files to a folder, dist/site by default, for any host under any path
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import './bundle.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const configFile = `${root}site/vite.config.ts`;

function fail(text) {
  process.stderr.write(`site: ${text}\n`);
  process.exit(2);
}

function given() {
  try {
    return parseArgs({ options: { build: { type: 'boolean', default: false }, port: { type: 'string', default: '4173' } }, allowPositionals: true });
  } catch (error) {
    return fail(`${error.message}\n  npm run site [-- --port N]    npm run site -- --build [FOLDER]`);
  }
}

const kilobytes = (bytes) => `${(bytes / 1000).toFixed(0)} kB`.padStart(8);

/** What each page loads before it can be used, compressed; the engine's worker is loaded by all, what is asked for later by none. */
function sizesOf(folder) {
  const compressed = (file) => gzipSync(readFileSync(`${folder}/${file}`), { level: 9 }).length;
  const manifest = JSON.parse(readFileSync(`${folder}/.vite/manifest.json`, 'utf8'));
  const filesOf = (key, found = new Set()) => {
    const { file, css = [], imports = [] } = manifest[key];
    for (const each of [file, ...css]) found.add(each);
    for (const each of imports) if (!found.has(manifest[each].file)) filesOf(each, found);
    return found;
  };
  const worker = readdirSync(`${folder}/assets`).find((name) => name.startsWith('worker-'));
  const entry = filesOf('index.html');
  const sum = (files) => [...files].reduce((total, file) => total + compressed(file), 0);
  const frame = sum(entry) + compressed('index.html');
  const engine = compressed(`assets/${worker}`);
  const lines = Object.keys(manifest)
    .filter((key) => key.startsWith('src/pages/'))
    .map((key) => {
      const own = sum([...filesOf(key)].filter((file) => !entry.has(file)));
      return `${kilobytes(frame + engine + own)}  ${key.slice('src/pages/'.length, -'.ts'.length)} (frame ${kilobytes(frame).trim()}, engine ${kilobytes(engine).trim()}, its own ${kilobytes(own).trim()})`;
    });
  const editor = sum([...filesOf('src/parts/editor.ts')].filter((file) => !entry.has(file)));
  return [...lines, `${kilobytes(editor)}  the editor, loaded on Edit`].join('\n');
}

const { values, positionals } = given();
if (positionals.length > (values.build ? 1 : 0)) fail(`"${positionals.at(-1)}" has no effect; a folder belongs to --build`);
const port = Number(values.port);
if (!Number.isInteger(port) || port < 0 || port > 65535) fail(`--port ${values.port}: a number from 0 to 65535 is expected`);

if (!existsSync(`${root}site/node_modules`)) {
  process.stderr.write('site: installing its packages, once …\n');
  const { status } = spawnSync('npm', ['ci', '--prefix', `${root}site`, '--no-audit', '--no-fund'], { stdio: ['ignore', 'inherit', 'inherit'] });
  if (status !== 0) process.exit(1);
}
const { build, preview } = await import('vite');
const outDir = positionals[0] ? resolve(positionals[0]) : `${root}dist/site`;
// What is there is replaced: only an earlier build may be.
if (existsSync(outDir) && readdirSync(outDir).length > 0 && !existsSync(`${outDir}/.vite/manifest.json`))
  fail(`${outDir} holds other files than a built site, and would be emptied; name another folder`);
await build({ configFile, logLevel: 'warn', build: { outDir } });
process.stderr.write(`site: written to ${outDir}\n${sizesOf(outDir)}\n`);
if (!values.build) {
  const server = await preview({ configFile, build: { outDir }, preview: { port, strictPort: true, host: '127.0.0.1' } });
  process.stdout.write(`${server.resolvedUrls.local[0]}\n`);
}
