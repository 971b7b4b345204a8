/** Which network made features: what stores and checkpoints keep of it. */
import { z } from 'zod';

/** The network that made features, and how its pictures were prepared. */
export const EncoderIdentity = z.object({
  path: z.string(),
  sha256: z.string(),
  featureMap: z.string(),
  preprocessing: z.string(),
  /** Hash of the weights that were trained further; null if all weights are those of the file. */
  tuned: z.string().nullable().default(null),
});
export type EncoderIdentity = z.infer<typeof EncoderIdentity>;
