/** `glimpse demo`: trains on made scenes before the user's eyes and writes a page of captioned, never-seen scenes. */
import { join, resolve } from 'node:path';
import { writeFileAtomic } from '../data/atomic_file.ts';
import { writeSafetensors } from '../data/safetensors.ts';
import { DEMO_FORMAT, DemoModel, runDemo } from '../model/demo/demo.ts';
import type { DemoCommandOptions } from './commands/demo.ts';
import { demoPage } from './demo_page.ts';
import { duration, progress, result, say } from './output.ts';
import { withGpu } from './session.ts';

export async function demo(o: DemoCommandOptions): Promise<number> {
  return withGpu(o, async (gpu) => {
    let bar: ReturnType<typeof progress> | null = null;
    const model = new DemoModel(o.seed);
    const { report, described } = await runDemo(model, {
      ...o,
      onStep: (done, total, loss) => {
        bar ??= progress(o, 'training', total, 'batches');
        bar.update(done, `loss ${loss.toFixed(3)} per word`);
      },
      onEpoch: (epoch, loss, exact, seconds) => {
        bar?.stop();
        bar = null;
        say(
          o,
          `epoch ${epoch}: loss ${loss.toFixed(4)} per word, ${(100 * exact).toFixed(1)} % of validation captions right in every word, ${duration(seconds)} so far`,
        );
      },
    });
    if (o.save) {
      const { seed, scenes } = o;
      const told = { format: DEMO_FORMAT, seed, scenes, epochs: report.epochs, exactMatch: report.exactMatch };
      writeSafetensors(o.save, await model.weights(), Object.fromEntries(Object.entries(told).map(([name, value]) => [name, String(value)])));
      say(o, `weights: ${o.save}`);
    }
    model.dispose();
    const page = join(o.out, 'index.html');
    writeFileAtomic(page, [await demoPage(described.slice(0, 24), report, gpu.description)]);
    writeFileAtomic(join(o.out, 'report.json'), [JSON.stringify({ adapter: gpu.description, ...report })]);
    result(o, { adapter: gpu.description, page, ...report }, () =>
      [
        `exact match     ${(100 * report.exactMatch).toFixed(1)} % of ${report.testScenes} scenes never seen`,
        `pointing        ${(100 * report.pointing).toFixed(1)} % of naming words look at the thing they name (chance: ${(100 * report.pointingByChance).toFixed(1)} %)`,
        `trained         ${report.epochs} epochs of ${report.trainScenes} scenes, ${report.parameters} parameters, ${duration(report.seconds)} on ${gpu.description}`,
        `look at it      ${resolve(page)}`,
      ].join('\n'),
    );
    return report.exactMatch >= 0.9 ? 0 : 1;
  });
}
