/** Compiled kernels. Each shader variant becomes a pipeline once, with the layout of its bindings. */
import { GpuError, messageOf } from '../errors.ts';
import type { Faults } from './faults.ts';
import { type LoadedShader, loadShader, type ShaderVariant } from './shader.ts';
import type { BindGroupLayout, ComputePipeline } from './webgpu_types.ts';

/** A compiled shader with what is needed to bind and launch it. */
export interface Kernel {
  name: string;
  variant: ShaderVariant;
  shader: LoadedShader;
  pipeline: ComputePipeline;
  layout: BindGroupLayout;
  readsTexels: boolean;
}

/** One letter per binding: kernels with the same letters share a layout. */
const ACCESS_LETTERS = { read: 'r', read_write: 'w', texels: 't' } as const;

function numbered(code: string): string {
  return code
    .split('\n')
    .map((line, i) => `${String(i + 1).padStart(4)} | ${line}`)
    .join('\n');
}

export class Pipelines {
  private kernels = new Map<string, Kernel>();
  /** Times that all kernels were forgotten. It stands in their texts, so that nothing behind us knows them. */
  private generation = 0;
  private readonly layouts = new Map<string, GPUBindGroupLayout>();

  /** `source` gives the text of a shader file. @internal */
  constructor(
    private readonly device: GPUDevice,
    private readonly faults: Faults,
    private readonly source: (file: string) => string,
    private readonly uniformLayout: GPUBindGroupLayout,
  ) {}

  /** The compiled kernel of a shader variant, from the cache after its first use. */
  kernel(variant: ShaderVariant): Kernel {
    const { file, source = '', tune = 0, constants = 0, expressions = 0 } = variant;
    const key = `${file}|${JSON.stringify(tune)}|${JSON.stringify(constants)}|${JSON.stringify(expressions)}|${source}`;
    let kernel = this.kernels.get(key);
    if (!kernel) {
      kernel = this.compile(variant);
      this.kernels.set(key, kernel);
    }
    return kernel;
  }

  /** Forgets all compiled kernels: each is compiled anew at its next use. The result brings back those that were not. */
  forget(): () => void {
    const before = this.kernels;
    this.kernels = new Map();
    this.generation++;
    return () => {
      this.kernels = new Map([...before, ...this.kernels]);
    };
  }

  load(variant: ShaderVariant): LoadedShader {
    return loadShader(variant, variant.source ?? this.source(variant.file));
  }

  private compile(variant: ShaderVariant): Kernel {
    const { file } = variant;
    const operation = `compiling ${file}`;
    this.faults.check(operation);
    const shader = this.load(variant);
    if (shader.needsSubgroups && !this.device.features.has('subgroups')) {
      throw new GpuError('limit', file, 'needs the feature "subgroups", which this adapter lacks');
    }
    const layout = this.layoutOf(shader);
    const explained = (message: string) => `${message}\n${numbered(shader.code)}`;
    let pipeline: GPUComputePipeline;
    try {
      pipeline = this.faults.guard(
        operation,
        () => {
          const code = this.generation === 0 ? shader.code : `${shader.code}\n// generation ${this.generation}`;
          const module = this.device.createShaderModule({ label: file, code });
          return this.device.createComputePipeline({
            label: file,
            layout: this.device.createPipelineLayout({ label: file, bindGroupLayouts: shader.params.length ? [layout, this.uniformLayout] : [layout] }),
            compute: { module, entryPoint: 'main', constants: variant.constants },
          });
        },
        explained,
      );
      this.faults.check(file);
    } catch (error) {
      throw new GpuError('shader', operation, explained(messageOf(error)));
    }
    return { name: file, variant, shader, pipeline, layout, readsTexels: shader.bindings.some(({ access }) => access === 'texels') };
  }

  private layoutOf(shader: LoadedShader): GPUBindGroupLayout {
    const key = shader.bindings.map(({ access }) => ACCESS_LETTERS[access]).join('');
    let layout = this.layouts.get(key);
    if (!layout) {
      layout = this.device.createBindGroupLayout({
        label: key,
        entries: shader.bindings.map(({ access }, binding) => ({
          binding,
          visibility: GPUShaderStage.COMPUTE,
          ...(access === 'texels'
            ? { storageTexture: { access: 'read-only' as const, format: 'rgba32float' as const } }
            : { buffer: { type: access === 'read' ? ('read-only-storage' as const) : ('storage' as const) } }),
        })),
      });
      this.layouts.set(key, layout);
    }
    return layout;
  }

  /** The compiler's errors for a text as it stands, by line. */
  async compilerErrors(source: string): Promise<{ line: number; column: number; message: string }[]> {
    this.device.pushErrorScope('validation');
    const { messages } = await this.device.createShaderModule({ label: 'text', code: source }).getCompilationInfo();
    await this.device.popErrorScope();
    return messages.filter(({ type }) => type === 'error').map(({ lineNum, linePos, message }) => ({ line: lineNum, column: linePos, message }));
  }

  /** Compiles a variant and returns every message, on any backend. */
  async compileMessages(variant: ShaderVariant): Promise<string[]> {
    const module = this.device.createShaderModule({ label: variant.file, code: this.load(variant).code });
    const { messages } = await module.getCompilationInfo();
    return messages.map((m) => `${m.type} ${variant.file}:${m.lineNum}:${m.linePos} ${m.message}`);
  }
}
