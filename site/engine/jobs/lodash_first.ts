/** The `benchmark` package looks for lodash as a global where there is no `require`. So this is imported before it. */
// @ts-expect-error lodash comes with `benchmark` and brings no types; it is only handed on
import lodash from 'lodash';

(globalThis as { _?: unknown })._ = lodash;
