// A file's own sample rate, by its header. Browsers tell none, and decode to the rate they are asked
// for; their resampling takes away what lies above 6 kHz of 16, so they had better not do any.

const MPEG = [44_100, 48_000, 32_000]; // of MPEG 1; half of it in MPEG 2, a quarter in 2.5

/** Hz, or null where this is none of the server's formats. */
export function rateOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = (at, count) => String.fromCharCode(...bytes.subarray(at, at + count));
  try {
    if (text(0, 3) === "ID3") return rateOf(bytes.subarray(10 + tagBytes(view)));
    if (text(0, 4) === "RIFF") return wavRate(view, text);
    if (text(0, 4) === "fLaC") return view.getUint32(18) >>> 12;
    if (text(0, 4) === "OggS") return oggRate(view, text);
    return mp3Rate(view);
  } catch {
    return null; // it ends before its header does
  }
}

function wavRate(view, text) {
  let at = 12;
  while (text(at, 4) !== "fmt ") at += 8 + view.getUint32(at + 4, true);
  return view.getUint32(at + 12, true);
}

function oggRate(view, text) {
  const packet = 27 + view.getUint8(26); // after the page's header and its table of segments
  if (text(packet, 8) === "OpusHead") return 48_000; // whatever was encoded
  return text(packet + 1, 6) === "vorbis" ? view.getUint32(packet + 12, true) : null;
}

/** Bytes of a tag that MP3 files begin with, and some FLAC files, after its head. */
const tagBytes = (view) =>
  [6, 7, 8, 9].reduce((sum, digit) => sum * 128 + view.getUint8(digit), 0);

function mp3Rate(view) {
  const header = view.getUint16(0);
  const halvings = { 3: 0, 2: 1, 0: 2 }[(header >> 3) & 3];
  const rate = MPEG[(view.getUint8(2) >> 2) & 3];
  const isLayer3 = header >= 0xffe0 && ((header >> 1) & 3) === 1;
  return isLayer3 && halvings !== undefined && rate ? rate / 2 ** halvings : null;
}
