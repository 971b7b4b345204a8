/**
 * Captions a picture with a trained run: of `glimpse train`, or of train_on_folder.ts.
 *
 *   npx tsx examples/caption_photograph.ts RUN PICTURE
 */
import { Captioner, loadCheckpoint, openEncoderOf, openGpu, resolveCheckpoint, tensor, Vocabulary } from 'glimpse';

const [run, picture] = process.argv.slice(2);
if (!picture) throw new Error('give RUN PICTURE');
const gpu = await openGpu();

const checkpoint = loadCheckpoint(resolveCheckpoint(run)); // the weights, and everything that is needed with them
const encoder = await openEncoderOf(checkpoint);
const { sizes, options, maxLength } = checkpoint.config;
const model = Captioner.fromWeights(sizes, options, checkpoint.weights);
const vocabulary = new Vocabulary(checkpoint.vocabulary);

const { values, regions, width } = await encoder.features([await encoder.load(picture)]); // [1, regions, width]
const beam = { width: 3, penalty: 'average', alpha: 0, suppress: true } as const;
const [captions] = await model.decoding.beam(tensor(values, [1, regions, width]), maxLength - 1, beam, true);
const [{ tokens, logProbs, alpha }] = captions; // the best first

console.log(vocabulary.decode(tokens));
const side = Math.sqrt(regions);
tokens.forEach((token, i) => {
  const region = alpha[i].indexOf(Math.max(...alpha[i])); // where attention looked most before this word
  const place = `row ${Math.floor(region / side) + 1}, column ${(region % side) + 1}`;
  console.error(`${vocabulary.words[token].padEnd(12)} probability ${Math.exp(logProbs[i]).toFixed(2)}, looked most at ${place} of ${side} × ${side}`);
});
model.dispose();
encoder.dispose();
await gpu.close();

// prints (on the folder that test/examples.test.ts makes):
// a green picture nothing else
