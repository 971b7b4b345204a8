/** bfloat16 on the host: the upper halves of float32 numbers. ONNX files hold weights so, and processes send gradients so. */

/** The upper half of a number, given by its bits: rounded to the nearest, ties to even. */
export const bfloatOf = (bits: number): number => ((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16);

/** Numbers from their upper halves. */
export function fromBfloat(halves: Uint16Array, out: Float32Array): void {
  const words = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0; i < words.length; i++) words[i] = halves[i] << 16;
}
