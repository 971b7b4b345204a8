// The compiler emits only JavaScript and declarations. Shaders and tuning tables are files that Node reads at run time, and the
// bundle of both is what a browser imports: they follow it. Last comes the mark that bin/built.js looks for.
import { cpSync, writeFileSync } from 'node:fs';

const follow = (path) => cpSync(new URL(`../src/${path}`, import.meta.url), new URL(`../dist/src/${path}`, import.meta.url), { recursive: true });
for (const path of ['kernels/wgsl', 'kernels/tuned', 'study/exercises', 'platform/web/bundle.js', 'platform/web/bundle.d.ts']) follow(path);
writeFileSync(new URL('../dist/built', import.meta.url), '');
