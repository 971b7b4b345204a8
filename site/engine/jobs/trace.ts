/** A scene through the captioner, equation by equation, forward and backward. */
import { END } from '../../../src/data/words.ts';
import type { Gpu } from '../../../src/gpu/gpu.ts';
import type { DemoModel } from '../../../src/model/demo/demo.ts';
import type { Scene } from '../../../src/model/demo/scenes.ts';
import { captionInput, trace } from '../../../src/study/trace.ts';
import { scope } from '../../../src/tensor/tensor.ts';
import type { Jobs } from '../protocol.ts';

export async function traceScene(gpu: Gpu, model: DemoModel, scene: Scene): Promise<Jobs['trace']['result']> {
  const [{ words }] = await model.describe([scene]);
  const { vocabulary } = model;
  const said = [...words.map((word) => vocabulary.words.indexOf(word)), END];
  let features: Float32Array;
  {
    using _features = scope();
    features = (await model.features([scene]).data()) as Float32Array;
  }
  const input = captionInput(features, said);
  return { trace: await trace(gpu, model.captioner, input, { train: true, all: true, focus: null }), words: said.map((id) => vocabulary.words[id]), scene };
}
