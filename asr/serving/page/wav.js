// Samples as a WAV file: one channel of 16-bit integers.

// `parts` are arrays of int16, one behind the other; browsers' machines are little-endian, as the format is.
export function wavOf(parts, rate) {
  const head = new DataView(new ArrayBuffer(44)), size = parts.reduce((sum, part) => sum + part.byteLength, 0);
  const write = (place, text) => [...text].forEach((letter, i) => head.setUint8(place + i, letter.charCodeAt(0)));
  write(0, "RIFF"); head.setUint32(4, 36 + size, true); write(8, "WAVEfmt ");
  head.setUint32(16, 16, true); head.setUint16(20, 1, true); head.setUint16(22, 1, true);
  head.setUint32(24, rate, true); head.setUint32(28, 2 * rate, true); head.setUint16(32, 2, true);
  head.setUint16(34, 16, true); write(36, "data"); head.setUint32(40, size, true);
  return new Blob([head, ...parts], { type: "audio/wav" });
}
