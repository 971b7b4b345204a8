// One minified module of the engine for a page without a build step of its own: dist/web/glimpse.js. Prints its sizes.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'vite';
import './bundle.js';

const root = fileURLToPath(new URL('..', import.meta.url));
await build({
  root,
  configFile: false,
  logLevel: 'warn',
  build: { outDir: 'dist/web', target: 'es2022', minify: true, lib: { entry: 'src/web.ts', formats: ['es'], fileName: 'glimpse' } },
});
const bundle = readFileSync(new URL('../dist/web/glimpse.js', import.meta.url));
const kilobytes = (bytes) => `${(bytes / 1000).toFixed(0)} kB`;
console.log(`dist/web/glimpse.js: ${kilobytes(bundle.length)}, ${kilobytes(gzipSync(bundle, { level: 9 }).length)} compressed`);
