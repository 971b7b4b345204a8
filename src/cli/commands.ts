/** All commands, in the order of the help. */
import type { Declaration } from './command.ts';
import { average } from './commands/average.ts';
import { bench, benchCompare, benchPlot, benchReport } from './commands/bench.ts';
import { caption } from './commands/caption.ts';
import { demo } from './commands/demo.ts';
import { doctor } from './commands/doctor.ts';
import { evaluate } from './commands/eval.ts';
import { exercise } from './commands/exercise.ts';
import { exportModel } from './commands/export.ts';
import { features } from './commands/features.ts';
import { gallery } from './commands/gallery.ts';
import { merge } from './commands/merge.ts';
import { neighbors } from './commands/neighbors.ts';
import { newKernel } from './commands/new_kernel.ts';
import { onnxCheck } from './commands/onnx_check.ts';
import { onnxInspect, onnxProfile, onnxRun } from './commands/onnx_model.ts';
import { plot } from './commands/plot.ts';
import { prepare } from './commands/prepare.ts';
import { profile } from './commands/profile.ts';
import { score } from './commands/score.ts';
import { selftest } from './commands/selftest.ts';
import { serve } from './commands/serve.ts';
import { trace } from './commands/trace.ts';
import { train } from './commands/train.ts';
import { tune } from './commands/tune.ts';

export const COMMANDS: readonly Declaration[] = [
  ...[doctor, selftest, demo],
  ...[prepare, features, merge, train, average, neighbors, caption, gallery, serve, exportModel],
  ...[exercise, newKernel, tune, bench, benchCompare, benchPlot, benchReport, profile, trace, plot, score, evaluate],
  ...[onnxInspect, onnxRun, onnxProfile, onnxCheck],
];
