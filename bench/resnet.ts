/** ResNet-50 or ViT-B/16 from its file as work to time. It stands apart from the other models because it needs files. */
import { noGrad } from '../src/autograd/tape.ts';
import { openFile } from '../src/data/file_source.ts';
import type { Gpu } from '../src/gpu/gpu.ts';
import { unpackedModel } from '../src/model/encoder/encoder.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import { Scope, scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { TOLERANCE, withPlainVersions } from './models.ts';
import { compare } from './reference.ts';
import { PICTURE, type Prepared, pictureInputs } from './work.ts';

export async function resnet(gpu: Gpu, images: number, path: string): Promise<Prepared> {
  const model = OnnxModel.load(openFile(await unpackedModel(path)));
  const [{ name }] = model.graph.inputs;
  const x = Scope.release(tensor(pictureInputs(images, 0), [images, 3, PICTURE, PICTURE]));
  const forward = () => noGrad(() => model.run({ [name]: x })[0]);
  let last: Tensor | null = null;
  return {
    async load(set) {
      x.write(pictureInputs(images, set));
      await gpu.idle();
    },
    async run(times = 1) {
      for (let i = 0; i < times; i++) {
        last?.dispose();
        x.slice.buffer.writes++; // a picture is newly written before every run
        using _run = scope();
        last = Scope.release(forward());
      }
      await gpu.idle();
    },
    result: async () => (await last?.data()) ?? [],
    async check() {
      using _check = scope();
      const plain = withPlainVersions(forward);
      const expected = { values: await plain.data(), shape: plain.shape, tolerance: TOLERANCE, against: 'plain versions' };
      return compare((await last?.data()) ?? [], expected);
    },
    dispose() {
      last?.dispose();
      x.dispose();
      model.dispose();
    },
  };
}
