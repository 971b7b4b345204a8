/** Which network made features: what stores and checkpoints keep of it. */
import { z } from 'zod';
import { LAYOUTS } from './feature_layout.ts';

/** The network that made features, and how its pictures were prepared. */
export const EncoderIdentity = z.object({
  path: z.string(),
  sha256: z.string(),
  featureMap: z.string(),
  /** Order of the axes of that value. Absent: the last feature map of a convolutional network. */
  layout: z.enum(LAYOUTS).optional(),
  /** Tokens before those of the patches, which are left out. */
  dropped: z.number().int().nonnegative().optional(),
  preprocessing: z.string(),
  /** Hash of the weights that were trained further; null if all weights are those of the file. */
  tuned: z.string().nullable().default(null),
});
export type EncoderIdentity = z.infer<typeof EncoderIdentity>;
