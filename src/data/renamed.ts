/** Files of earlier versions hold old names. These functions turn them into the names of today, for zod's `preprocess`. */

type Names = Readonly<Record<string, string>>;

/** Turns an old value into its new name. */
export const renamedValue =
  (names: Names) =>
  (value: unknown): unknown =>
    typeof value === 'string' && Object.hasOwn(names, value) ? names[value] : value;

/** Turns the old keys of an object into their new names. */
export const renamedKeys =
  (names: Names) =>
  (value: unknown): unknown =>
    value && typeof value === 'object' && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).map(([key, inner]) => [renamedValue(names)(key), inner]))
      : value;
