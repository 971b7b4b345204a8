/** What all models have in common that Hugging Face stores as a folder: the names of the files, and the bounds of sizes in `config.json`. */
import { z } from 'zod';
import { readText } from './text.ts';
import { parseJson } from './validation.ts';

export const CONFIG = 'config.json';
export const WEIGHTS = 'model.safetensors';

/** Layers and heads, and widths. No model that is read comes near these. */
export const Count = z.number().int().min(1).max(1024);
export const Width = z.number().int().min(1).max(65_536);

/** A `config.json` with the kind of model that it is of; other fields are not looked at yet. Throws a FileError with the verdict. */
export const readModelConfig = (path: string, verdict: string) => parseJson(path, readText(path), z.looseObject({ model_type: z.string() }), verdict);
