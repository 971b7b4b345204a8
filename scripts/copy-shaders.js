// The compiler emits only JavaScript; the shaders are files that dist reads at run time, so they follow it.
import { cpSync } from 'node:fs';

cpSync(new URL('../src/kernels/wgsl', import.meta.url), new URL('../dist/kernels/wgsl', import.meta.url), {
  recursive: true,
});
