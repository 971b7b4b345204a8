/**
 * The objects of WebGPU that this package's own declarations name. TypeScript's dom library and @webgpu/types both declare
 * them and contradict each other. The declarations therefore refer to neither and take what the user's project has.
 */

/** The instances of a global class if the project declares it, else `unknown`. */
type Declared<Name extends string> = typeof globalThis extends Record<Name, { prototype: infer Instance }> ? Instance : unknown;

export type WebGpu = Declared<'GPU'>;
export type Adapter = Declared<'GPUAdapter'>;
export type AdapterInfo = Declared<'GPUAdapterInfo'>;
export type Device = Declared<'GPUDevice'>;
export type Buffer = Declared<'GPUBuffer'>;
export type ComputePipeline = Declared<'GPUComputePipeline'>;
export type BindGroupLayout = Declared<'GPUBindGroupLayout'>;
