/**
 * Evicts the caches of the device before a sample: a kernel reads and writes more memory than they hold. It uses plain WebGPU, so
 * that a peer's process does the same on a device of its own, which shares the caches.
 */
import type { Flush } from './sampling.ts';

/** More than the last-level caches of today's processors and GPUs. */
const BYTES = 64 << 20;

/** `copyShader` is the text of roof_copy.wgsl. */
export function deviceFlush(device: GPUDevice, copyShader: string): Flush {
  const module = device.createShaderModule({ label: 'flush', code: copyShader });
  const pipeline = device.createComputePipeline({ label: 'flush', layout: 'auto', compute: { module, entryPoint: 'main' } });
  const storage = () => device.createBuffer({ label: 'flush', size: BYTES, usage: GPUBufferUsage.STORAGE });
  const [x, y] = [storage(), storage()];
  const params = device.createBuffer({ label: 'flush', size: 16, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });
  const count4 = BYTES / 16;
  device.queue.writeBuffer(params, 0, new Uint32Array([count4, 0, 0, 0]));
  const group = (index: number, buffers: GPUBuffer[]) =>
    device.createBindGroup({ layout: pipeline.getBindGroupLayout(index), entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })) });
  const groups = [group(0, [x, y]), group(1, [params])];
  const inOneRow = Math.min(65535, Math.ceil(count4 / 256));
  return async () => {
    const encoder = device.createCommandEncoder({ label: 'flush' });
    const pass = encoder.beginComputePass({ label: 'flush' });
    pass.setPipeline(pipeline);
    for (const [i, each] of groups.entries()) pass.setBindGroup(i, each);
    pass.dispatchWorkgroups(inOneRow, Math.ceil(count4 / 256 / inOneRow));
    pass.end();
    device.queue.submit([encoder.finish()]);
    await device.queue.onSubmittedWorkDone();
  };
}
