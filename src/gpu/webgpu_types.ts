/**
 * The objects of WebGPU that this package's own declarations name. TypeScript's dom library and @webgpu/types both declare
 * them, and contradict each other, so the declarations refer to neither: they take what the user's project has.
 */

/** A global class's instances, where the project declares it; else something opaque. */
type Declared<Name extends string> = typeof globalThis extends Record<Name, { prototype: infer Instance }> ? Instance : unknown;

export type WebGpu = Declared<'GPU'>;
export type Adapter = Declared<'GPUAdapter'>;
export type AdapterInfo = Declared<'GPUAdapterInfo'>;
export type Device = Declared<'GPUDevice'>;
export type Buffer = Declared<'GPUBuffer'>;
export type ComputePipeline = Declared<'GPUComputePipeline'>;
export type BindGroupLayout = Declared<'GPUBindGroupLayout'>;
