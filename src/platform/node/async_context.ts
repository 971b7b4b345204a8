/** Node can keep values apart between concurrent async functions. Importing this file makes the engine do so. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { type ContextStore, useContextStores } from '../../context.ts';

class AsyncStore<T> implements ContextStore<T> {
  readonly shared = false;
  private readonly storage = new AsyncLocalStorage<T>();

  get(): T | undefined {
    return this.storage.getStore();
  }

  set(value: T): void {
    this.storage.enterWith(value);
  }

  run<R>(value: T, work: () => R): R {
    return this.storage.run(value, work);
  }
}

useContextStores(<T>() => new AsyncStore<T>());
