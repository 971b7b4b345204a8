/** Files of earlier versions keep their names for things; what reads them takes the names of today. Made for zod's `preprocess`. */

type Names = Readonly<Record<string, string>>;

/** A value that was called otherwise once. */
export const renamedValue =
  (names: Names) =>
  (value: unknown): unknown =>
    typeof value === 'string' && Object.hasOwn(names, value) ? names[value] : value;

/** An object whose keys were called otherwise once. */
export const renamedKeys =
  (names: Names) =>
  (value: unknown): unknown =>
    value && typeof value === 'object' && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).map(([key, inner]) => [renamedValue(names)(key), inner]))
      : value;
