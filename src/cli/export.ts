/** `glimpse export`: a trained model as ONNX, as safetensors, or for the browser. It needs no GPU. */
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { UsageError } from '../errors.ts';
import { checkWeights } from '../model/captioner/captioner.ts';
import { encoderFileOf } from '../model/encoder/encoder.ts';
import type { Exported, LoggedEpoch } from '../model/export/card.ts';
import { type ExportedFile, isTaken, onnxFiles, safetensorsFiles, webFiles, writeFiles } from '../model/export/files.ts';
import { resolveCheckpoint } from '../model/training/checkpoint.ts';
import { VERSION } from '../platform/node/version.ts';
import type { ExportOptions } from './commands/export.ts';
import { result, say } from './output.ts';
import { readLog } from './plot.ts';
import { checkpointAt } from './session.ts';

/** The log's entry of an epoch, if the checkpoint lies in a run that has a log. */
function loggedEpoch(o: ExportOptions, checkpointPath: string, epoch: number): LoggedEpoch | null {
  const folder = dirname(checkpointPath);
  const log = join(dirname(folder), 'log.jsonl');
  if (basename(folder) !== 'checkpoints' || !existsSync(log)) return null;
  const lines = readLog(log, (line) => say(o, `${log}: line ${line}, the last one, is cut off`));
  const found = lines.findLast((line) => line.kind === 'epoch' && line.epoch === epoch);
  return found?.kind === 'epoch' ? found : null;
}

async function filesOf(o: ExportOptions, exported: Exported): Promise<ExportedFile[]> {
  if (o.format === 'safetensors') return safetensorsFiles(exported);
  const file = await encoderFileOf(exported.checkpoint, o.encoder);
  return o.format === 'onnx' ? onnxFiles(exported, file) : webFiles(exported, o.encoder ?? exported.checkpoint.encoder.path, file);
}

const NEXT: Record<ExportOptions['format'], string> = {
  onnx: 'README.md says how to run it',
  safetensors: 'the folder can stand in the place of a checkpoint',
  web: 'drop model.safetensors and the encoder on the caption page, or run `glimpse serve` with this folder',
};

const sizeText = (bytes: number): string => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

export async function exportCommand(o: ExportOptions, modelPath: string): Promise<number> {
  if (isTaken(o.out) && !o.force) throw new UsageError(`${o.out} is there already and not empty; name another folder, or write into it with --force`);
  const path = resolveCheckpoint(modelPath);
  const checkpoint = checkpointAt(o, path);
  checkWeights(checkpoint.config.sizes, checkpoint.config.options, checkpoint.weights);
  const exported = { checkpoint, logged: loggedEpoch(o, path, checkpoint.progress.epoch), version: VERSION };
  const files = writeFiles(o.out, await filesOf(o, exported));
  result(o, { out: o.out, format: o.format, checkpoint: path, files }, () => [
    `${o.out}: ${checkpoint.config.options.decoder} as ${o.format}`,
    ...files.map(({ name, bytes }) => `  ${name.padEnd(20)} ${sizeText(bytes)}`),
    NEXT[o.format],
  ]);
  return 0;
}
