/** Numbers that are none: NaN and infinities are looked for where numbers enter, since later they only show as a bad result. */

/** How many of the values are NaN or infinite, and where the first is; null if none is. */
export function nonFinite(values: Float32Array): { count: number; first: number } | null {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] * 0; // 0 for finite numbers, else NaN: quicker than asking each
  if (sum === 0) return null;
  let count = 0;
  let first = -1;
  for (let i = 0; i < values.length; i++) {
    if (Number.isFinite(values[i])) continue;
    if (count++ === 0) first = i;
  }
  return { count, first };
}

/** As words: "12 of 4704 numbers are NaN or infinite, first number 7 (NaN)"; null if all are finite. */
export function nonFiniteFault(values: Float32Array): string | null {
  const found = nonFinite(values);
  return found && `${found.count} of ${values.length} numbers are NaN or infinite, first number ${found.first + 1} (${values[found.first]})`;
}
