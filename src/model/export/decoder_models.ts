/**
 * The decoder as three ONNX models. `decoder_start` runs once per picture, and `decoder_step` once per word. `decoder_greedy` does
 * both, with the loop over the words inside.
 */
import { END, PAD, START } from '../../data/words.ts';
import { type Chunks, modelMessage } from '../onnx/writer.ts';
import { decoderGraphs, type ExportedModel } from './decoders.ts';
import { GraphBuilder, IR_VERSION, OPSET, type Port, PRODUCER, type Value } from './graph.ts';

/** A model with what it takes and gives. */
export interface ExportedGraph {
  /** Its file is called so, with `.onnx`. */
  name: string;
  doc: string;
  inputs: readonly Port[];
  outputs: readonly Port[];
  bytes: Chunks;
}

export interface DecoderOptions {
  /** Never choose pad, unknown and startseq. */
  suppress: boolean;
  /** Of glimpse, for the files. */
  version: string;
}

/** The models of a captioner's decoder. Throws a GlimpseError for a decoder that cannot be exported. */
export function decoderModels(model: ExportedModel, { suppress, version }: DecoderOptions): ExportedGraph[] {
  const { sizes } = model;
  const graphs = decoderGraphs(model);
  const features: Port = { name: 'features', type: 'float', shape: ['rows', 'regions', sizes.features], doc: 'feature maps, as encoder.onnx gives them' };

  const finished = (name: string, doc: string, inputs: readonly Port[], outputs: readonly Port[], g: GraphBuilder): ExportedGraph => {
    const graph = g.message(name, inputs, outputs);
    return { name, doc, inputs, outputs, bytes: modelMessage({ graph, irVersion: IR_VERSION, opset: OPSET, producer: { name: PRODUCER, version }, doc }) };
  };

  const start = (): ExportedGraph => {
    const g = new GraphBuilder();
    const outputs = [...graphs.picture, ...graphs.states];
    for (const port of [features, ...outputs]) g.reserve(port);
    const made = graphs.start(g, features.name);
    for (const [i, value] of [...made.picture, ...made.states].entries()) g.output(value, outputs[i]);
    return finished('decoder_start', 'What every step reads of the pictures, and the states before the first word', [features], outputs, g);
  };

  const step = (): ExportedGraph => {
    const g = new GraphBuilder();
    const words: Port = { name: 'words', type: 'int64', shape: ['rows'], doc: 'ids of the words before; startseq at first' };
    const inputs = [words, ...graphs.picture, ...graphs.states];
    const outputs: Port[] = [
      { name: 'logits', type: 'float', shape: ['rows', sizes.vocabulary], doc: 'scores of the next words' },
      { name: 'attention', type: 'float', shape: ['rows', 'regions'], doc: 'attention weights of the regions' },
      ...graphs.after.map((port, i) => ({ ...port, name: `next_${graphs.states[i].name}` })),
    ];
    for (const port of [...inputs, ...outputs]) g.reserve(port);
    const of = (ports: readonly Port[]) => ports.map(({ name }) => name);
    const { logits, alpha, states } = graphs.step(g, of(graphs.picture), of(graphs.states), words.name);
    for (const [i, value] of [logits, alpha, ...states].entries()) g.output(value, outputs[i]);
    return finished('decoder_step', 'One step: the words before and the states → scores of the next words, and the next states', inputs, outputs, g);
  };

  const greedy = (): ExportedGraph => {
    const g = new GraphBuilder();
    const inputs: Port[] = [features, { name: 'max_length', type: 'int64', shape: [], doc: 'most words of a caption, endseq included' }];
    const outputs: Port[] = [
      { name: 'words', type: 'int64', shape: ['rows', 'steps'], doc: 'ids of the words: those of the caption, endseq, then pad' },
      { name: 'log_probs', type: 'float', shape: ['rows', 'steps'], doc: 'log-probabilities of the words, in nats; 0 after endseq' },
      { name: 'attention', type: 'float', shape: ['rows', 'steps', 'regions'], doc: 'attention weights of each word; 0 after endseq' },
    ];
    for (const port of [...inputs, ...outputs]) g.reserve(port);
    const { picture, states } = graphs.start(g, features.name);
    const rows = g.extent(features.name, 0);
    const first = [g.filled(rows, 'int64', START), g.filled(rows, 'bool', 0), ...states];
    const body = greedyBody(g, picture);
    const carried = first.map((_, i) => (i === 0 ? 'last_words' : i === 1 ? 'all_ended' : `last_state_${i - 2}`));
    const scanned = g.nodeOf('Loop', [inputs[1].name, g.truth(true), ...first], [...carried, 'scanned_words', 'scanned_log_probs', 'scanned_attention'], {
      body: { graph: body },
    });
    for (const [i, value] of scanned.slice(first.length).entries())
      g.output(g.transpose(value, outputs[i].shape?.length === 3 ? [1, 0, 2] : [1, 0]), outputs[i]);
    return finished('decoder_greedy', 'Feature maps → captions: the likeliest word at each step', inputs, outputs, g);
  };

  /** One step of the loop. It ends when every caption has. */
  function greedyBody(outer: GraphBuilder, picture: readonly Value[]): Chunks {
    const g = new GraphBuilder(outer);
    const port = (hint: string, type: Port['type'], shape?: Port['shape']): Port => ({ name: g.fresh(hint), type, shape });
    const [step, going, previous, ended] = [
      port('step', 'int64', []),
      port('going', 'bool', []),
      port('previous', 'int64', ['rows']),
      port('ended', 'bool', ['rows']),
    ];
    // The states of a transformer grow, so their shapes are not declared.
    const before = graphs.states.map(({ name, type }) => port(`before_${name}`, type));
    const { logits, alpha, states } = graphs.step(
      g,
      picture,
      before.map(({ name }) => name),
      previous.name,
    );
    const least = suppress ? END : PAD;
    const allowed = least > 0 ? g.node('Slice', [logits, g.wholes([least]), g.wholes([sizes.vocabulary]), g.wholes([1])]) : logits;
    const best = g.node('ArgMax', [allowed], { axis: 1, keepdims: 0 });
    const likeliest = least > 0 ? g.add(best, g.whole(least)) : best;
    const logProbs = g.node('LogSoftmax', [logits], { axis: -1 });
    const chosen = g.squeeze(g.node('GatherElements', [logProbs, g.unsqueeze(likeliest, 1)], { axis: 1 }), 1);
    const word = g.where(ended.name, g.whole(PAD), likeliest);
    const logProb = g.where(ended.name, g.float(0), chosen);
    const seen = g.where(g.unsqueeze(ended.name, 1), g.float(0), alpha);
    const nowEnded = g.node('Or', [ended.name, g.node('Equal', [likeliest, g.whole(END)])]);
    const open = g.node('ReduceSum', [g.cast(g.node('Not', [nowEnded]), 'int64')], { keepdims: 0 });
    const goesOn = g.node('Greater', [open, g.whole(0)]);
    const out = (name: Value, { type, shape }: Omit<Port, 'name'>): Port => ({ name, type, shape });
    return g.message(
      'greedy_step',
      [step, going, previous, ended, ...before],
      [
        out(goesOn, going),
        out(word, previous),
        out(nowEnded, ended),
        ...states.map((value, i) => out(value, { type: before[i].type })),
        out(word, previous),
        out(logProb, { type: 'float', shape: ['rows'] }),
        out(seen, { type: 'float', shape: ['rows', 'regions'] }),
      ],
      true,
    );
  }

  return [start(), step(), greedy()];
}
