/** Captions that were recorded on another machine; scripts/site_records.ts makes them. */

import { unseenScene } from '../../../src/model/demo/scenes.ts';
import recorded from '../../data/recorded.json';
import type { Described } from './scene.ts';

export function recordedScenes(): { adapter: string; date: string; described: Described[] } {
  const { adapter, date, seed, scenes } = recorded;
  const described = scenes.map(({ index, words, wordProbs, exact, alpha }) => ({
    ...{ scene: unseenScene(seed, index), words, wordProbs, exact },
    alpha: alpha.map((map) => Uint8Array.from(atob(map), (letter) => letter.charCodeAt(0))),
  }));
  return { adapter, date, described };
}
