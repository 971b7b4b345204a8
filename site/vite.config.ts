/** How the site is built: static files that any host can serve under any path. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type BuildEnvironmentOptions, defineConfig } from 'vite';
import { content } from './build/content.ts';
import { policy } from './build/policy.ts';

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string };

/** A comment of zod's that Rollup does not understand changes nothing. */
const rollupOptions: BuildEnvironmentOptions['rollupOptions'] = {
  onwarn: (warning, tell) => {
    if (warning.code !== 'INVALID_ANNOTATION') tell(warning);
  },
};

export default defineConfig({
  root: fileURLToPath(new URL('.', import.meta.url)),
  base: './',
  appType: 'mpa', // a path that there is not is not answered with the page
  define: { __VERSION__: JSON.stringify(version) },
  plugins: [content(), policy()],
  worker: { format: 'es', plugins: () => [content()], rollupOptions },
  build: {
    rollupOptions,
    outDir: fileURLToPath(new URL('../dist/site', import.meta.url)),
    emptyOutDir: true,
    manifest: true, // scripts/site.js tells the sizes of pages from it
    target: 'es2022',
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 800,
    reportCompressedSize: false,
  },
  preview: { host: '127.0.0.1' },
});
