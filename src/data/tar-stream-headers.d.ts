/** Types for the headers of tar-stream, which its own types leave out. */
declare module 'tar-stream/headers.js' {
  const headers: {
    /** Null for a block of zeros. Throws an Error for a wrong checksum. */
    decode(
      block: Uint8Array,
      encoding: string,
      allowUnknownFormat: boolean,
    ): { name: string; size: number; type: string | null; pax: Record<string, string> | null } | null;
    decodePax(bytes: Uint8Array): Record<string, string>;
    decodeLongPath(bytes: Uint8Array, encoding: string): string;
  };
  export default headers;
}
