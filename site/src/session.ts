/** What lasts while pages change: the engine, its device, and the training that may go on in the background. */
import { Engine, EngineError, type Running } from '../engine/client.ts';
import type { AdapterFacts, Jobs, TrainProgress } from '../engine/protocol.ts';

/** A training that runs, or that has ended. */
export interface Training {
  input: Jobs['train']['input'];
  running: Running<'train'>;
  losses: number[];
  epochs: Extract<TrainProgress, { kind: 'epoch' }>[];
  last: Extract<TrainProgress, { kind: 'step' }> | null;
  isPaused: boolean;
  outcome: Jobs['train']['result'] | EngineError | null;
}

export class Session {
  readonly engine: Engine;
  /** The device, or why there is none. */
  adapter: Promise<AdapterFacts>;
  training: Training | null = null;
  /** Called when the training told something. */
  onTraining: () => void = () => {};

  constructor(guaranteed: boolean) {
    this.engine = new Engine(guaranteed);
    this.engine.onBroken = () => {
      if (!this.isTraining) this.training = null; // its model went with the worker
    };
    this.adapter = this.open();
  }

  /** Opens the device, also another time after it was lost. */
  open(): Promise<AdapterFacts> {
    this.adapter = this.engine.run('open', null);
    this.adapter.catch(() => {}); // whoever needs it will see the reason
    return this.adapter;
  }

  train(input: Jobs['train']['input']): Training {
    const training: Training = { input, running: null as never, losses: [], epochs: [], last: null, isPaused: false, outcome: null };
    training.running = this.engine.begin('train', input, (progress) => {
      if (progress.kind === 'step') {
        training.last = progress;
        training.losses.push(progress.loss);
      } else training.epochs.push(progress);
      this.onTraining();
    });
    training.running.result.then(
      (result) => {
        training.outcome = result;
        this.onTraining();
      },
      (error: EngineError) => {
        training.outcome = error;
        this.onTraining();
      },
    );
    this.training = training;
    return training;
  }

  get isTraining(): boolean {
    return this.training !== null && this.training.outcome === null;
  }

  /** The model that was trained in this tab, once there is one; else the one that comes with the site. */
  get bestModel(): 'trained' | 'bundled' {
    const outcome = this.training?.outcome;
    return outcome && !(outcome instanceof EngineError) ? 'trained' : 'bundled';
  }
}
