// Writes the shaders and tuning tables as one module, since a browser has no files to read them from.
//
//   node scripts/bundle.js [FILE]      default: src/platform/web/bundle.js
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const kernels = new URL('../src/kernels/', import.meta.url);
// Other scripts import this one; their options are none of its files.
const named = process.argv[1] === fileURLToPath(import.meta.url) ? process.argv[2] : undefined;
const target = named ?? fileURLToPath(new URL('../src/platform/web/bundle.js', import.meta.url));

function filesOf(folder, ending) {
  const names = readdirSync(new URL(`${folder}/`, kernels)).filter((name) => name.endsWith(ending));
  return Object.fromEntries(names.sort().map((name) => [name.slice(0, -ending.length), readFileSync(new URL(`${folder}/${name}`, kernels), 'utf8')]));
}

const tuned = Object.fromEntries(Object.entries(filesOf('tuned', '.json')).map(([name, text]) => [name, JSON.parse(text)]));
const text = `export const SHADERS = ${JSON.stringify(filesOf('wgsl', '.wgsl'))};\nexport const TUNED = ${JSON.stringify(tuned)};\n`;
// An equal file keeps its date: a newer one would outdate what `npm run build` made, and every command would then run from the sources.
if (!existsSync(target) || readFileSync(target, 'utf8') !== text) writeFileSync(target, text);
