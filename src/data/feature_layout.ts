/** Order of the axes of a feature map: what options, stores and encoders agree on. */

/** N pictures, C channels, H × W regions; or T tokens. */
export const LAYOUTS = ['NCHW', 'NHWC', 'NTC'] as const;
export type Layout = (typeof LAYOUTS)[number];
