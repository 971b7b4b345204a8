/** Opens the stores of --features, and says what a user must know of them. */
import { FeatureStore } from '../data/feature_store.ts';
import { type CommonOptions, say } from './output.ts';

export async function openFeatures(o: CommonOptions & { allowMissing: boolean }, folders: readonly string[]): Promise<FeatureStore> {
  const store = await FeatureStore.open(folders, { allowMissing: o.allowMissing });
  for (const note of store.notes) say(o, note);
  return store;
}
