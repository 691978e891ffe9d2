// Samples → a WAV file of 16-bit mono, which the server reads; what browsers record by themselves
// (WebM, MP4) it does not.

const HEADER = 44;

/**
 * Full scale is 32,768 and halves go to the even number, as in the Python client: what was recorded
 * in 16 bits stays as it is, and a mean of two channels is rounded alike.
 */
function to16(sample) {
  const scaled = sample * 32_768;
  const up = Math.round(scaled);
  const nearest = up - scaled === 0.5 && up % 2 !== 0 ? up - 1 : up;
  return Math.max(-32_768, Math.min(32_767, nearest));
}

/** Encode pieces of one recording, Float32Arrays, at `rate` Hz. */
export function wav(parts, rate) {
  const count = parts.reduce((sum, part) => sum + part.length, 0);
  const view = new DataView(new ArrayBuffer(HEADER + 2 * count));
  const text = (at, letters) => [...letters].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, HEADER - 8 + 2 * count, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); // bytes of the format that follows
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // mono
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true); // bytes a second
  view.setUint16(32, 2, true); // bytes a frame
  view.setUint16(34, 16, true); // bits a sample
  text(36, "data");
  view.setUint32(40, 2 * count, true);
  let at = HEADER;
  for (const part of parts) {
    for (const sample of part) {
      view.setInt16(at, to16(sample), true);
      at += 2;
    }
  }
  return new Blob([view], { type: "audio/wav" });
}
