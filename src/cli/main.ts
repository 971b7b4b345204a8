/** The command line. Each command lives in a file of its own and is loaded when it is called, so that starting is quick. */
import { Command, CommanderError, Option } from 'commander';
import { GlimpseError, messageOf } from '../errors.ts';
import { withDecodingOptions } from './decoding.ts';
import { type CommonOptions, positiveNumber, wholeNumber } from './output.ts';

/** Outside `src`: the benchmarks are no part of what is built. */
const BENCH = new URL('../../bench/command.ts', import.meta.url).href;

const program = new Command('glimpse')
  .description('A tensor engine with hand-written WGSL kernels, and an image captioner trained on it')
  .version('0.1.0')
  .showHelpAfterError('(--help shows the options)');

function command(name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .addOption(new Option('--adapter <name>', 'auto, gpu, lavapipe, swiftshader, or a part of an adapter’s name').default(undefined, 'GLIMPSE_ADAPTER or auto'))
    .option('--quiet', 'only results and errors');
}

type Run<O> = (options: O & CommonOptions, ...args: never[]) => Promise<number>;

/** Runs a command: its number is the exit code. */
function action<O>(load: () => Promise<Run<O>>): (...args: unknown[]) => Promise<void> {
  return async (...args) => {
    const self = args.pop() as Command;
    args.pop();
    const run = await load();
    process.exitCode = await run(self.opts() as O & CommonOptions, ...(args as never[]));
  };
}

command('doctor', 'find a driver; print adapter, features, limits, and what to install for a better one')
  .option('--json', 'JSON on stdout')
  .action(action(async () => (await import('./doctor.ts')).doctor));

command('selftest', 'check every kernel version and gradient against its float64 reference on this adapter')
  .option('--op <name...>', 'only these ops')
  .option('--golden <file>', 'check the whole captioner against a golden (safetensors)')
  .option('--json', 'JSON on stdout')
  .action(action(async () => (await import('./selftest.ts')).selftest));

command('demo', 'make captioned scenes, train encoder and captioner on them, caption unseen ones, write a page')
  .option('--out <folder>', 'where the page and its log go', 'out/demo')
  .option('--scenes <count>', 'training scenes', wholeNumber('--scenes', 64), 3072)
  .option('--epochs <count>', 'epochs at most', wholeNumber('--epochs', 1), 6)
  .option('--seed <number>', 'random seed', wholeNumber('--seed', 0), 7)
  .option('--json', 'JSON on stdout')
  .action(action(async () => (await import('./demo.ts')).demo));

command('prepare', 'turn captions and split lists into a dataset: vocabulary, word ids, a report of faults')
  .requiredOption('--images <folder>', 'the pictures')
  .requiredOption('--out <file>', 'the dataset to write (JSON)')
  .option('--flickr <file>', 'Flickr8k or Flickr30k token file')
  .option('--train-list <file>', 'file names of the training split (with --flickr)')
  .option('--val-list <file>', 'file names of the validation split')
  .option('--test-list <file>', 'file names of the test split')
  .option('--coco-train <file>', 'COCO captions JSON of the training split')
  .option('--coco-val <file>', 'COCO captions JSON of the validation split')
  .option('--karpathy <file>', 'Karpathy’s split JSON (dataset_coco.json, dataset_flickr8k.json, …)')
  .option('--table <file>', 'pictures of your own: .csv or .jsonl with image, caption and perhaps split')
  .option('--fraction <share>', 'of the training pictures, drawn by the seed', positiveNumber('--fraction'), 1)
  .option('--val-share <share>', 'of the pictures without a split', positiveNumber('--val-share'), 0)
  .option('--test-share <share>', 'of the pictures without a split', positiveNumber('--test-share'), 0)
  .option('--seed <number>', 'of splits and fraction', wholeNumber('--seed', 0), 42)
  .addOption(new Option('--words <rule>', 'how captions become words: see README').choices(['ascii', 'ptb', 'unicode']).default('ascii'))
  .option('--vocabulary <size>', 'most frequent words kept, special words included', wholeNumber('--vocabulary', 5), 5000)
  .option('--min-count <count>', 'rarer words become <unk>', wholeNumber('--min-count', 1), 1)
  .option('--max-length <words>', 'longest caption, startseq and endseq included', wholeNumber('--max-length', 3), 35)
  .option('--skip-bad', 'leave out pictures that are missing, unreadable, or have no caption')
  .option('--json', 'JSON on stdout')
  .action(action(async () => (await import('./prepare.ts')).prepare));

command('features', 'run the image encoder over a dataset’s pictures into a packed store; goes on where it stopped')
  .requiredOption('--data <file>', 'dataset made by prepare')
  .option('--encoder <file>', 'ResNet as .onnx or .onnx.gz')
  .option('--model <model>', 'or the encoder that a model was trained with, as it was trained on')
  .requiredOption('--out <folder>', 'the feature store')
  .option('--preprocess <name>', 'imagenet, caffe or tensorflow; needed unless the encoder file is a known one')
  .option('--split <names...>', 'only these splits')
  .option('--limit <count>', 'at most this many pictures per split', wholeNumber('--limit', 1))
  .option('--shard <i/n>', 'only this part of the pictures, for many machines; `glimpse merge` puts the stores together')
  .addOption(new Option('--precision <type>', 'of the stored numbers').choices(['f32', 'f16']).default('f32'))
  .addOption(new Option('--grid <regions>', 'a side: 14 encodes pictures of twice the size').choices(['7', '14']))
  .option('--batch <count>', 'pictures at a time', wholeNumber('--batch', 1), 8)
  .option('--skip-bad', 'leave out pictures that cannot be read')
  .option('--json', 'JSON on stdout')
  .action(action(async () => (await import('./features.ts')).features));

command('merge', 'put feature stores together, such as the shards of several machines')
  .argument('<out>', 'the store to make, or to complete')
  .argument('<stores...>', 'finished stores of the same encoder')
  .option('--json', 'JSON on stdout')
  .action(action(async () => (await import('./features.ts')).merge));

command('train', 'train the captioner on stored features')
  .requiredOption('--data <file>', 'dataset made by prepare')
  .requiredOption('--features <folder>', 'store made by features')
  .requiredOption('--out <folder>', 'the run: log and checkpoints')
  .addOption(new Option('--preset <name>', 'see docs and reference equations').choices(['basic', 'recommended']).default('recommended'))
  .addOption(
    new Option('--objective <name>', 'cross-entropy, or self-critical training of a trained model').choices(['cross-entropy', 'scst']).default('cross-entropy'),
  )
  .option('--start <model>', 'weights to start from: a run or a checkpoint file')
  .option('--epochs <count>', 'epochs at most', wholeNumber('--epochs', 1))
  .option('--rate <number>', 'learning rate', positiveNumber('--rate'))
  .addOption(
    new Option('--schedule <name>', 'how the rate falls: plateau halves it when CIDEr-D stands still').choices(['plateau', 'constant', 'cosine', 'step']),
  )
  .option('--warmup <updates>', 'updates over which the rate rises', wholeNumber('--warmup', 0), 0)
  .option('--patience <epochs>', 'epochs without a better CIDEr-D before plateau halves; twice as many stop; 0 never', wholeNumber('--patience', 0))
  .option('--max-norm <number>', 'clip the global gradient norm; 0 clips nothing', positiveNumber('--max-norm'))
  .option('--dropout <number>', 'dropout rate', positiveNumber('--dropout'))
  .option('--label-smoothing <share>', 'of the target given to all words alike', positiveNumber('--label-smoothing'), 0)
  .option('--scheduled-sampling <share>', 'of the input words that are the model’s own at the last epoch', positiveNumber('--scheduled-sampling'), 0)
  .option('--attention-penalty <number>', 'λ of the penalty on uneven attention', positiveNumber('--attention-penalty'))
  .option('--gate', 'a gate on the context')
  .option('--no-gate', 'none')
  .option('--learned-start', 'states start from the picture')
  .option('--no-learned-start', 'states start at zero')
  .addOption(
    new Option('--decoder <name>', 'order of attention and recurrent layers, or a transformer').choices([
      'stacked',
      'show-attend-tell',
      'up-down',
      'transformer',
    ]),
  )
  .addOption(new Option('--cell <name>', 'of the recurrent layers: lstm by default').choices(['lstm', 'gru']))
  .addOption(new Option('--score <name>', 'what squashes key + query in attention: tanh by default').choices(['tanh', 'relu']))
  .addOption(new Option('--query <state>', 'which layer’s state asks, in the stacked order: h2 by default').choices(['h1', 'h2']))
  .addOption(new Option('--attention <kind>', 'look everywhere by weight (soft, the default), or at one place drawn by weight').choices(['soft', 'hard']))
  .option('--context-to-output', 'predict words from the context too, not from the state alone')
  .option('--layers <count>', 'of a transformer: 2 by default', wholeNumber('--layers', 1))
  .option('--heads <count>', 'of a transformer: 8 by default', wholeNumber('--heads', 1))
  .option('--word-vectors <file>', 'start the embedding from GloVe text vectors, which give it their width')
  .option('--fine-tune <layers...>', 'train these layers of the encoder too, by the beginnings of their names, such as layer4; pictures are then read anew')
  .option('--encoder-rate <number>', 'learning rate of those layers', positiveNumber('--encoder-rate'), 1e-5)
  .option('--encoder <file>', 'the encoder to fine-tune, when it is no longer where the features were made')
  .option('--batch-images <count>', 'pictures per batch', wholeNumber('--batch-images', 1))
  .option('--captions <count>', 'captions per picture in a batch', wholeNumber('--captions', 1))
  .option('--accumulate <batches>', 'batches whose gradients make one update', wholeNumber('--accumulate', 1), 1)
  .option('--samples <count>', 'captions drawn per picture (scst)', wholeNumber('--samples', 1), 5)
  .option('--sample-length <words>', 'longest caption drawn (scst)', wholeNumber('--sample-length', 1))
  .option('--temperature <number>', 'of the draws (scst)', positiveNumber('--temperature'), 1)
  .addOption(
    new Option('--baseline <name>', 'the greedy caption’s reward, or the mean of the other samples (scst)').choices(['greedy', 'others']).default('others'),
  )
  .option('--mix <share>', 'of the cross-entropy in the loss (scst)', positiveNumber('--mix'), 0.2)
  .option('--normalize-advantage', 'divide rewards above the baseline by their spread (scst)')
  .option('--seed <number>', 'random seed', wholeNumber('--seed', 0), 42)
  .option('--keep <count>', 'checkpoints kept besides the best', wholeNumber('--keep', 1), 3)
  .option('--save-every <updates>', 'also save within an epoch; 0 only when interrupted', wholeNumber('--save-every', 0), 200)
  .option('--validation <count>', 'validation pictures to score after each epoch; 0 none', wholeNumber('--validation', 0), 200)
  .option('--resume', 'go on from the last checkpoint')
  .option('--json', 'JSON on stdout')
  .action(action(async () => (await import('./train.ts')).trainCommand));

withDecodingOptions(command('caption', 'caption pictures with a trained model'), 1)
  .argument('<model>', 'checkpoint file or the folder of a run')
  .argument('<pictures...>', 'picture files, or folders of them')
  .option('--encoder <file>', 'the encoder, when it is no longer where the features were made')
  .option('--n-best <count>', 'captions printed per picture', wholeNumber('--n-best', 1), 1)
  .option('--batch <count>', 'pictures at a time', wholeNumber('--batch', 1), 8)
  .option('--sample', 'draw the words at random instead')
  .option('--temperature <number>', 'of the draws', positiveNumber('--temperature'), 1)
  .option('--top-k <count>', 'draw among the k likeliest words; 0 all', wholeNumber('--top-k', 0), 0)
  .option('--top-p <share>', 'draw among the likeliest words that make up this share', positiveNumber('--top-p'), 1)
  .option('--seed <number>', 'of the draws', wholeNumber('--seed', 0), 0)
  .option('--skip-bad', 'leave out pictures that cannot be read')
  .option('--json', 'JSON on stdout')
  .action(action(async () => (await import('./caption.ts')).caption));

withDecodingOptions(command('gallery', 'show what a model says of pictures and where it looks at each word: a page, and a PNG per picture'), 3)
  .argument('<model>', 'checkpoint file or the folder of a run')
  .argument('[pictures...]', 'picture files; or give --data and --features')
  .option('--references <file>', 'COCO annotations of the pictures, found by file name')
  .option('--encoder <file>', 'the encoder, when it is no longer where the features were made')
  .option('--data <file>', 'dataset made by prepare')
  .option('--features <folder>', 'store made by features')
  .addOption(new Option('--split <name>', 'which pictures').choices(['train', 'val', 'test']).default('val'))
  .option('--limit <count>', 'at most this many pictures are captioned', wholeNumber('--limit', 1), 200)
  .option('--count <count>', 'shown of the best, of the worst, and at random', wholeNumber('--count', 1), 8)
  .option('--seed <number>', 'of the choice at random', wholeNumber('--seed', 0), 0)
  .option('--out <folder>', 'where page and PNGs go', 'out/gallery')
  .option('--json', 'JSON on stdout')
  .action(action(async () => (await import('./gallery.ts')).gallery));

command('tune', 'find the fastest version of every kernel on this adapter and keep the table for later runs')
  .option('--family <names...>', 'only these kernel families')
  .option('--out <file>', 'write the table here instead of the cache')
  .option('--json', 'JSON on stdout')
  .action(action(async () => (await import('./tune.ts')).tuneCommand));

command('bench', 'time kernels and models, beside the roofs of this adapter and, if asked, beside other engines')
  .argument('[names...]', 'matmul, conv, conv-grad-input, conv-grad-weight, softmax, cross-entropy, train-step, greedy, resnet50, first-caption, or all')
  .option('--peers', 'other engines on the same work (install them with `npm run oracles`)')
  .option('--versions', 'every version of the kernels side by side')
  .option('--only <text>', 'only sizes whose name holds this text')
  .option('--model <file>', 'ResNet-50 as .onnx or .onnx.gz, for resnet50')
  .option('--run <folder>', 'a trained run, for first-caption')
  .option('--picture <file>', 'a picture, for first-caption')
  .option('--samples <count>', 'samples at least', wholeNumber('--samples', 3), 15)
  .option('--seconds <number>', 'time for one measurement', positiveNumber('--seconds'), 2)
  .option('--chart <file>', 'write a roofline chart (.svg or .html)')
  .option('--report <file>', 'write the table as Markdown')
  .option('--json', 'JSON on stdout')
  .action(action(async () => (await import(BENCH)).bench));

command('plot', 'draw the curves of a training run')
  .argument('<runs...>', 'the folder of a run, or of several that started one from the other')
  .option('--out <file>', 'page (.html) or loss curve alone (.svg); else curves.html in the run')
  .option('--json', 'JSON on stdout')
  .action(action(async () => (await import('./plot.ts')).plot));

command('score', 'score captions against references: BLEU, ROUGE-L, CIDEr-D, per corpus and picture')
  .requiredOption('--references <file>', 'COCO annotations')
  .requiredOption('--candidates <file>', 'COCO results: [{"image_id", "caption"}]')
  .option('--bootstrap <count>', 'resamples for the 95 % intervals; 0 none', wholeNumber('--bootstrap', 0), 1000)
  .option('--json', 'JSON on stdout')
  .action(action(async () => (await import('./score.ts')).score));

withDecodingOptions(command('eval', 'caption a split with a trained model and score it'), 3)
  .argument('<model>', 'checkpoint file or the folder of a run')
  .requiredOption('--data <file>', 'dataset made by prepare')
  .requiredOption('--features <folder>', 'store made by features')
  .addOption(new Option('--split <name>', 'which pictures').choices(['train', 'val', 'test']).default('val'))
  .option('--limit <count>', 'at most this many pictures', wholeNumber('--limit', 1))
  .option('--batch <count>', 'pictures at a time', wholeNumber('--batch', 1), 32)
  .option('--bootstrap <count>', 'resamples for the 95 % intervals; 0 none', wholeNumber('--bootstrap', 0), 1000)
  .option('--out <file>', 'write the captions as COCO results')
  .option('--json', 'JSON on stdout')
  .action(action(async () => (await import('./score.ts')).evaluate));

const onnx = program.command('onnx').description('ONNX models');
onnx
  .command('check')
  .description('run models on their own test data and compare')
  .argument('<folders...>', 'folders with model.onnx and test_data_set_*/')
  .option('--adapter <name>', 'see doctor')
  .option('--rtol <number>', 'relative tolerance', positiveNumber('--rtol'), 1e-3)
  .option('--atol <number>', 'absolute tolerance', positiveNumber('--atol'), 1e-5)
  .option('--quiet', 'only results and errors')
  .option('--json', 'JSON on stdout')
  .action(action(async () => (await import('./onnx.ts')).check));

function overrideExit(c: Command): void {
  c.exitOverride();
  for (const sub of c.commands) overrideExit(sub);
}

async function main(): Promise<number> {
  overrideExit(program);
  try {
    await program.parseAsync();
    return Number(process.exitCode ?? 0);
  } catch (error) {
    if (process.stderr.isTTY) process.stderr.write('\x1b[?25h'); // a progress bar may have hidden the cursor
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (error instanceof GlimpseError) {
      process.stderr.write(`glimpse: ${error.message}\n`);
      return error.exitCode;
    }
    process.stderr.write(`glimpse: unexpected failure: ${messageOf(error)}\n${error instanceof Error ? error.stack : ''}\n`);
    return 1;
  }
}

const code = await main();
// Dawn may still hold a handle; what was printed is flushed first.
process.stdout.write('', () => process.stderr.write('', () => process.exit(code)));
