export const FEATURE_MAP: string;
export function sample(values: ArrayLike<number>): number[];
export function photographs(data: string): Promise<{ files: string[]; pixels: Float32Array[] }>;
export function askOnnxruntime(data: string, pixels: Float32Array[]): Promise<{ logits: Float32Array; features: Float32Array }[] | null>;
