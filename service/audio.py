"""Bytes from a stranger → a `Clip`: sniff, check the limits, decode, mix down, resample.

The only decoder: training, evaluation and serving hear the same samples. Nothing here trusts a
header: a clip is read in bounded blocks and every limit is checked again on what was really read,
so a small file that decodes to hours costs no more memory than a clip at the limit.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from service.domain import (
    SAMPLE_RATE,
    BadSampleRate,
    Clip,
    NoSamples,
    NotAudio,
    NotFinite,
    Samples,
    TooLong,
    TooManyChannels,
    UnsupportedFormat,
)

MAX_BODY_BYTES = 10 * 1024 * 1024
"""Bytes of an upload; 60 s of 16-bit stereo at 44.1 kHz is 10.1 MiB."""
MAX_DURATION_S = 60.0
MIN_SAMPLE_RATE = 8_000
MAX_SAMPLE_RATE = 192_000
MAX_CHANNELS = 8

HEAD_BYTES = 64
"""Of a file, enough to tell what it is."""
BLOCK_FRAMES = 65_536
"""Frames decoded at a time: 2 MiB at 8 channels, so a bomb is stopped after one block too many."""

UNKNOWN_FRAMES = 2**63 - 1
"""libsndfile's count where the header has none, as in a FLAC that was written to a pipe."""


@dataclass(frozen=True, slots=True)
class Format:
    """One accepted container with the encodings accepted in it, by libsndfile's names."""

    name: str
    containers: frozenset[str]
    subtypes: frozenset[str]


_PCM = frozenset({"PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"})
WAV = Format("WAV", frozenset({"WAV", "WAVEX"}), _PCM)
FLAC = Format("FLAC", frozenset({"FLAC"}), _PCM)
OGG = Format("Ogg", frozenset({"OGG"}), frozenset({"VORBIS", "OPUS"}))
MP3 = Format("MP3", frozenset({"MP3", "MPEG"}), frozenset({"MPEG_LAYER_III"}))
TAGGED = Format("MP3 or FLAC", MP3.containers | FLAC.containers, MP3.subtypes | FLAC.subtypes)
"""What may be behind an ID3 tag, which can be longer than any head; libsndfile skips it."""
ACCEPTED = "WAV (PCM or float), FLAC, Ogg Vorbis, Ogg Opus or MP3"

# An MPEG frame starts with 11 set bits; the layer bits 00 are reserved (AAC's ADTS uses them).
_MPEG_FRAME = re.compile(rb"\xff[\xe2-\xe7\xea-\xef\xf2-\xf7\xfa-\xff]")

_OTHER_AUDIO = (
    (b"\x1a\x45\xdf\xa3", "WebM or Matroska"),
    (b"FORM", "AIFF"),
    (b".snd", "AU"),
    (b"caff", "CAF"),
    (b"RF64", "RF64"),
    (b"#!AMR", "AMR"),
    (b"0&\xb2u", "WMA"),
)


def sniff(data: bytes) -> Format:
    """Name the container by its first bytes.

    Formats are allowed by name: libsndfile detects 26 containers and a damaged WAV has been seen
    to reach its MP3 decoder.

    Raises:
        NotAudio: the bytes start like no audio file.
        UnsupportedFormat: a known audio container that is not accepted.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return WAV
    if data[:4] == b"fLaC":
        return FLAC
    if data[:4] == b"OggS":
        return OGG
    if data[:3] == b"ID3":
        return TAGGED
    if _MPEG_FRAME.match(data):
        return MP3
    for magic, name in _OTHER_AUDIO:
        if data.startswith(magic):
            raise UnsupportedFormat(f"{name} is not accepted; send {ACCEPTED}.")
    if data[4:8] == b"ftyp":
        raise UnsupportedFormat(f"MP4 or M4A is not accepted; send {ACCEPTED}.")
    raise NotAudio(f"The body does not start like an audio file; send {ACCEPTED}.")


def decode(data: bytes, *, max_duration_s: float = MAX_DURATION_S) -> Clip:
    """Decode a whole clip to mono at `SAMPLE_RATE`.

    Samples beyond full scale (float files) are scaled back to a peak of 1, so that what follows
    can rely on finite arithmetic.

    Raises:
        NotAudio, UnsupportedFormat: it cannot be read.
        UnusableClip: it can, but is outside the limits; the subclass says which.
    """
    return read(io.BytesIO(data), max_duration_s=max_duration_s)


def read(source: BinaryIO, *, max_duration_s: float = MAX_DURATION_S) -> Clip:
    """Decode as `decode` does, from an open file that need not fit into memory."""
    head = source.read(HEAD_BYTES)
    source.seek(0)
    with _open(source, sniff(head)) as file:
        blocks = list(_resampled(file, max_duration_s))
        rate, channels = file.samplerate, file.channels
    frames = sum(count for count, _ in blocks)
    if not frames:
        raise NoSamples("The file is valid but holds no samples.")
    samples = np.concatenate([samples for _, samples in blocks])
    if not samples.size:
        raise NoSamples(f"{frames} samples at {rate} Hz are less than one at {SAMPLE_RATE} Hz.")
    if not np.isfinite(samples).all():
        raise NotFinite("The clip has NaN or infinite samples; write it again as PCM.")
    peak = float(np.abs(samples).max(initial=0.0))
    if peak > 1.0:
        samples /= np.float32(peak)
    return Clip(samples, frames / rate, rate, channels)


class _Forward(soundfile.SoundFile):  # type: ignore[misc] # it has no types
    """A file that is read once, front to back.

    Where a file can seek, soundfile seeks after every read to where it is already. That costs
    time, disturbs the decoders that carry state (MP3, Opus), and fails at the end of a FLAC that
    doesn't tell its length.
    """

    def seekable(self) -> bool:
        """Say no, so that nothing seeks."""
        return False


def _open(source: BinaryIO, expected: Format) -> soundfile.SoundFile:
    """Open with the header's limits checked."""
    try:
        file = _Forward(source)
    except soundfile.LibsndfileError as error:
        raise NotAudio(f"The {expected.name} file cannot be read: {error.error_string}") from error
    try:
        if file.format not in expected.containers or file.subtype not in expected.subtypes:
            raise UnsupportedFormat(
                f"{file.format} with {file.subtype} is not accepted; send {ACCEPTED}."
            )
        if not MIN_SAMPLE_RATE <= file.samplerate <= MAX_SAMPLE_RATE:
            raise BadSampleRate(
                f"{file.samplerate} Hz is outside {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz."
            )
        if file.channels > MAX_CHANNELS:
            raise TooManyChannels(f"{file.channels} channels; at most {MAX_CHANNELS} are accepted.")
    except BaseException:
        file.close()
        raise
    return file


def _resampled(file: soundfile.SoundFile, max_duration_s: float) -> Iterator[tuple[int, Samples]]:
    """Yield (source frames, mono samples at SAMPLE_RATE) block by block, up to the limit."""
    rate = file.samplerate
    limit = int(max_duration_s * rate)
    if limit < file.frames < UNKNOWN_FRAMES:
        raise _too_long(file.frames / rate, max_duration_s)
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    read = 0
    while True:
        try:
            block = file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise NotAudio(f"The audio breaks off: {error.error_string}") from error
        read += len(block)
        if read > limit:
            raise _too_long(read / rate, max_duration_s)
        with np.errstate(over="ignore", invalid="ignore"):  # checked for infinities afterwards
            mono = block.mean(axis=1, dtype=np.float32)
        last = not len(block)
        yield len(block), mono if rate == SAMPLE_RATE else resampler.resample_chunk(mono, last)
        if last:
            return


def _too_long(duration_s: float, max_duration_s: float) -> TooLong:
    return TooLong(
        f"The clip lasts at least {duration_s:.1f} s; at most {max_duration_s:g} s are accepted. "
        "Split it, or use `timbre classify`, which splits and merges for you."
    )
