// The compiler emits only JavaScript; shaders and tuning tables are files that dist reads at run time, so they follow it. Last
// comes the mark that bin/built.js looks for.
import { cpSync, writeFileSync } from 'node:fs';

for (const folder of ['wgsl', 'tuned'])
  cpSync(new URL(`../src/kernels/${folder}`, import.meta.url), new URL(`../dist/kernels/${folder}`, import.meta.url), {
    recursive: true,
  });
writeFileSync(new URL('../dist/built', import.meta.url), '');
