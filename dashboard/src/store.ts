// Values that views watch.

import { useEffect, useState } from "preact/hooks";

export class Store<T> {
  private readonly watchers = new Set<() => void>();
  constructor(private held: T) {}

  get value(): T {
    return this.held;
  }

  set(value: T) {
    this.held = value;
    for (const watcher of this.watchers) watcher();
  }

  watch(watcher: () => void): () => void {
    this.watchers.add(watcher);
    return () => void this.watchers.delete(watcher);
  }
}

/** The store's value; the component is drawn again when it changes. */
export function useStore<T>(store: Store<T>): T {
  const [, again] = useState(0);
  useEffect(() => {
    let seen = store.value;
    again((n) => n + 1);
    return store.watch(() => {
      if (store.value !== seen || typeof seen === "object") {
        seen = store.value;
        again((n) => n + 1);
      }
    });
  }, [store]);
  return store.value;
}
