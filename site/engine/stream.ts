/** A stream of bytes as one array, with a limit: what comes from outside may unpack to more than there is memory. */

/** Throws once there are more than `most` bytes, with `tooMany` as the text. `tell` is called with the number so far. */
export async function gathered(
  stream: ReadableStream<Uint8Array>,
  most: number,
  tooMany: string,
  tell: (length: number) => void = () => {},
): Promise<Uint8Array<ArrayBuffer>> {
  const reader = stream.getReader();
  const pieces: Uint8Array[] = [];
  let length = 0;
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    pieces.push(value as Uint8Array);
    length += (value as Uint8Array).length;
    if (length > most) throw new Error(tooMany);
    tell(length);
  }
  const all = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}
