/**
 * Exercise 12: T small products become one.
 *
 *   dU = Σ_t h_{t−1}ᵀ dp_t            h_{t−1} [B, H], dp_t [B, 4H], t = 1 … T
 *
 * Backpropagation through time ends with a sum over the steps. A product at every step reads and writes all of dU, T times, for B
 * multiply-adds an element each. Nothing in the loop reads dU, so it can wait. Behind one another, the rows of all steps are one
 * matrix. The sum over t becomes part of the sum over the inner dimension: dU is one product with K = T · B.
 *
 * h is a tensor [T + 1, B, H]: the states 0 … T. dp is a tensor [T, B, 4H]. Return dU, a tensor [H, 4H], made by one product.
 * `ops.slice(x, starts, extents)` takes a part, `ops.reshape(x, shape)` renames the axes, and `ops.matmul(a, b, { transA: true })`
 * multiplies with a transposed. This file is TypeScript without types, so that it can be run as it stands.
 */
export function recurrentWeightGradient(ops, h, dp) {
  const [T, B, width] = dp.shape;
  const H = width / 4;
  // @hole: dU by one product over all steps
  const before = ops.reshape(ops.slice(h, [0, 0, 0], [T, B, H]), [T * B, H]); // h_0 … h_{T−1}
  return ops.matmul(before, ops.reshape(dp, [T * B, width]), { transA: true });
  // @end
}
