/**
 * Values that belong to a flow of control, such as the innermost scope of tensors. A host with asynchronous contexts (Node)
 * keeps them apart between concurrent async functions. Browsers have no such contexts and use a plain variable. Functions whose
 * scopes interleave are refused there, because each would dispose the other's tensors.
 */
import { GlimpseError } from './errors.ts';

/** How a host keeps one such value. */
export interface ContextStore<T> {
  get(): T | undefined;
  /** Sets the value for what follows in this flow. */
  set(value: T): void;
  /** Runs work with the value, also across its awaits. */
  run<R>(value: T, work: () => R): R;
  /** True when flows cannot be told apart, so that nesting must be checked. */
  shared: boolean;
}

class SharedStore<T> implements ContextStore<T> {
  readonly shared = true;
  private value: T | undefined;

  get(): T | undefined {
    return this.value;
  }

  set(value: T): void {
    this.value = value;
  }

  run<R>(value: T, work: () => R): R {
    const before = this.value;
    this.value = value;
    const restore = () => {
      if (this.value !== value) throw interleaved();
      this.value = before as T;
    };
    let result: R;
    try {
      result = work();
    } catch (error) {
      this.value = before;
      throw error;
    }
    if (result instanceof Promise) return result.finally(restore) as R;
    restore();
    return result;
  }
}

function interleaved(): GlimpseError {
  return new GlimpseError(
    'two async functions with scopes of their own ran at the same time, which this host cannot keep apart\n  Await one before the next makes tensors, or give each a worker of its own.',
  );
}

let makeStore = <T>(): ContextStore<T> => new SharedStore<T>();

/** Sets how the host keeps such values. The host calls this when it is loaded, before a value is first used. */
export function useContextStores(make: <T>() => ContextStore<T>): void {
  makeStore = make;
}

export class Context<T> {
  private made: ContextStore<T> | null = null;

  private get store(): ContextStore<T> {
    this.made ??= makeStore<T>();
    return this.made;
  }

  /** Whether concurrent flows cannot be told apart. */
  get shared(): boolean {
    return this.store.shared;
  }

  get(): T | undefined {
    return this.store.get();
  }

  enter(value: T): void {
    this.store.set(value);
  }

  /** Goes back to the value before. Throws if flows cannot be told apart and another one has entered a value since. */
  leave(value: T, before: T): void {
    const { store } = this;
    const nested = !store.shared || store.get() === value;
    store.set(before);
    if (!nested) throw interleaved();
  }

  run<R>(value: T, work: () => R): R {
    return this.store.run(value, work);
  }
}
