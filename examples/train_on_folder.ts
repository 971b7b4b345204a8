/**
 * Trains a captioner on a folder of pictures with a table of captions (a .csv with the columns image, caption and perhaps split).
 * ENCODER is a convolutional network as ONNX, such as a ResNet-50, whose last feature map describes a picture.
 *
 *   npx tsx examples/train_on_folder.ts FOLDER TABLE.csv ENCODER.onnx RUN
 */
import { join } from 'node:path';
import { FeatureStore, FeatureWriter, ImageEncoder, openGpu, PRESETS, prepareDataset, readTable, type TrainingConfig, train } from 'glimpse';

const [folder, table, encoderFile, run] = process.argv.slice(2);
if (!run) throw new Error('give FOLDER TABLE.csv ENCODER.onnx RUN');
const gpu = await openGpu();

// Captions become word ids; pictures without a split get one by the random seed.
const { dataset, report } = await prepareDataset(readTable(table), {
  ...{ imageFolder: folder, words: 'unicode', vocabularySize: 10_000, minCount: 1, maxLength: 30 },
  ...{ fraction: 1, valShare: 0.1, testShare: 0, seed: 42, skipBad: false },
});
console.log(`${report.images.train} training and ${report.images.val} validation pictures, ${report.vocabulary} words`);

// Every picture goes through the encoder once: a map of regions, each of `width` numbers, is stored.
const encoder = await ImageEncoder.open(encoderFile, { preprocessing: 'imagenet' });
const features = join(run, 'features');
const { regions, width } = await encoder.features([encoder.blank()]);
const writer = FeatureWriter.open(features, { encoder: encoder.identity, regions, width, type: 'f32' });
for (const { file } of dataset.images) {
  const { records } = await encoder.features([await encoder.load(join(folder, file))]);
  writer.append([file], records);
}
writer.finish();
encoder.dispose();

const config: TrainingConfig = {
  ...{ preset: 'recommended', options: { ...PRESETS.recommended, dropout: 0.1, labelSmoothing: 0 }, objective: 'token-mean', selfCritical: null },
  sizes: { features: width, regions, project: 128, attention: 128, hidden: 192, embedding: 64, vocabulary: dataset.vocabulary.length },
  ...{ seed: 42, rate: 4e-3, maxNorm: 5, batch: { images: 8, captionsPerImage: 3 }, accumulate: 1, gradientPrecision: 'f32' },
  ...{ schedule: 'constant', warmup: 0, horizon: 0, patience: 0, maxLength: dataset.maxLength },
  ...{ start: null, wordVectors: null, encoderLayers: [], encoderRate: 0 },
};
const store = await FeatureStore.open(features);
const epochs = await train({
  ...{ dataset, store, config, run, epochs: 10, resume: false, keep: 1, saveEvery: 0, validationImages: 200 },
  hooks: { onStep: () => {}, onEpoch: ({ epoch, trainLoss }) => console.error(`epoch ${epoch}: ${trainLoss.toFixed(3)} nats a word`) },
});
const [first, last] = [epochs[0], epochs[epochs.length - 1]];
console.log(`last loss: ${((100 * last.trainLoss) / first.trainLoss).toFixed(0)} % of the first; CIDEr-D of validation captions: ${last.cider?.toFixed(1)}`);
await store.close();
await gpu.close();

// prints, numbers within 25 % (on the folder that test/examples.test.ts makes):
// 22 training and 2 validation pictures, 15 words
// last loss: 5 % of the first; CIDEr-D of validation captions: 7.5
