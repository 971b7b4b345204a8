/**
 * Errors that the device reports, turned into a `GpuError` that names the operation at fault. Dawn's Node bindings report
 * within the failing call; browsers report later. Where reports come late, each operation runs within error scopes of its own,
 * and readbacks wait for them. The error then names the operation that failed, not the next one.
 */
import { GpuError, type GpuErrorKind, messageOf } from '../errors.ts';

interface Fault {
  kind: GpuErrorKind;
  /** Null when the device did not name it. The operation that calls `check` is then taken as the failed one. */
  operation: string | null;
  error: unknown;
}

/** Goes by the class's name: the classes are the host's own, so minifying a program does not rename them. */
function kindOfError(error: GPUError): GpuErrorKind {
  const { name } = error.constructor;
  if (/OutOfMemory/.test(name)) return 'out-of-memory';
  return /Validation/.test(name) ? 'validation' : 'internal';
}

export class Faults {
  private fault: Fault | null = null;
  private readonly pending = new Set<Promise<void>>();
  /** Number of faults thrown. A later report about an operation that began before the throw is a consequence and is dropped. */
  private thrown = 0;
  private lost = false;

  /** `late`: the host reports after the failing call. `adviceFor` gives the host's advice for a kind of fault. */
  constructor(
    private readonly device: GPUDevice,
    private readonly late: boolean,
    private readonly adviceFor: (kind: GpuErrorKind) => string,
  ) {
    device.addEventListener('uncapturederror', (event) => {
      event.preventDefault();
      const { error } = event as GPUUncapturedErrorEvent;
      this.note(kindOfError(error), null, error);
    });
    void device.lost.then((info) => {
      if (!this.lost) this.note('lost', null, new Error(info.message || `device lost (${info.reason})`));
      this.lost = true;
    });
  }

  /** True once the device is gone, closed or lost. */
  get isLost(): boolean {
    return this.lost;
  }

  /** The device is about to be closed on purpose. */
  expectLoss(): void {
    this.lost = true;
  }

  private note(kind: GpuErrorKind, operation: string | null, error: unknown): void {
    this.fault ??= { kind, operation, error };
  }

  /** Whether `check` would throw a report. */
  get found(): boolean {
    return this.fault !== null;
  }

  /**
   * Runs calls of the device that may fail. Where reports come late, they are noted under this operation's name.
   * `tell` may add to the message, such as the shader's text.
   */
  guard<T>(operation: string, work: () => T, tell: (message: string) => string = (message) => message): T {
    if (!this.late) return work();
    const { thrown } = this;
    const filters: GPUErrorFilter[] = ['validation', 'out-of-memory', 'internal'];
    for (const filter of filters) this.device.pushErrorScope(filter);
    try {
      return work();
    } finally {
      for (const _filter of filters) {
        const popped = this.device
          .popErrorScope()
          .then((error) => {
            if (error && thrown === this.thrown) this.note(kindOfError(error), operation, new Error(tell(messageOf(error))));
          })
          .catch(() => {}) // the device is gone; its promise `lost` reports that
          .finally(() => this.pending.delete(popped));
        this.pending.add(popped);
      }
    }
  }

  /** Waits for the reports of all guarded calls so far. */
  async settle(): Promise<void> {
    if (this.pending.size > 0) await Promise.all(this.pending);
  }

  /** Throws a fault reported since the last check, with the name of the operation at fault. */
  check(operation: string): void {
    if (this.fault) {
      const { error, kind, operation: at } = this.fault;
      if (kind !== 'lost') this.fault = null;
      this.thrown++;
      throw new GpuError(kind, at ?? operation, `${kind === 'lost' ? 'the device is lost: ' : ''}${messageOf(error)}`, this.adviceFor(kind));
    }
    if (this.lost) throw new GpuError('lost', operation, 'the device is closed', 'Open a new one with openGpu().');
  }
}
