"""Seeds of every accepted format, and what is done to them."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from functools import cache
from random import Random

import numpy as np

from tests.support.audio import encoded, speech_like

MAX_MUTATIONS = 4
HEAD_BYTES = 96
"""Where the headers of all formats lie."""
KINDS = [
    *(("WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
    ("WAVEX", "PCM_16"),
    *(("FLAC", subtype) for subtype in ("PCM_S8", "PCM_16", "PCM_24")),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]
SHAPES = ((8_000, 1), (16_000, 2), (48_000, 8))
"""Hz and channels."""
SECONDS = 0.2
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1)
_LENGTHS = re.compile(rb"RIFF|fmt |data|fact|LIST|fLaC|ID3|OggS|\x01vorbis|OpusHead")
"""Names that a length, a count or a rate follows within a few bytes."""

Mutation = Callable[[Random, bytearray], None]


@cache
def seeds() -> tuple[bytes, ...]:
    """Make a short file of each kind and shape, and one second that is taken for speech."""
    files = [encoded(speech_like(1.0), subtype="PCM_16")]
    for container, subtype in KINDS:
        for rate, channels in SHAPES:
            count = min(channels, 2) if container == "MP3" else channels
            samples = np.random.default_rng(rate).uniform(-0.5, 0.5, (int(rate * SECONDS), count))
            data = encoded(samples.astype(np.float32), rate, container=container, subtype=subtype)
            files.append(data)
    tag = b"TIT2" + struct.pack(">IH", 6, 0) + b"\0tag\0\0"
    flac = next(file for file in files if file.startswith(b"fLaC"))
    head = b"ID3\x03\0\0" + bytes([0, 0, 0, len(tag)]) + tag
    files += [head + files[-1], head + flac]
    return tuple(files)


def mutated(random: Random, files: Sequence[bytes] = ()) -> bytes:
    """Take one of the files (by default the seeds) and damage it, once or a few times."""
    files = files or seeds()
    data = bytearray(random.choice(files))
    for _ in range(random.randint(1, MAX_MUTATIONS)):
        if random.random() < 1 / (len(MUTATIONS) + 1):
            data = _spliced(random, data, random.choice(files))
        else:
            random.choice(MUTATIONS)(random, data)
    # A page with a wrong checksum is skipped: half of the damage is to get as far as the codec.
    return _with_checksums(data) if data[:4] == b"OggS" and random.random() < 0.5 else bytes(data)


def _spliced(random: Random, head: bytearray, tail: bytes) -> bytearray:
    return head[: random.randint(0, len(head))] + tail[random.randint(0, len(tail)) :]


def _flip(random: Random, data: bytearray) -> None:
    for _ in range(random.choice((1, 2, 8, 32)) if data else 0):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _overwrite(random: Random, data: bytearray) -> None:
    at = random.randint(0, len(data))
    data[at : at + random.randint(1, 64)] = random.randbytes(random.randint(1, 64))


def _truncate(random: Random, data: bytearray) -> None:
    del data[random.randint(0, len(data)) :]


def _cut_out(random: Random, data: bytearray) -> None:
    at = random.randint(0, len(data))
    del data[at : at + random.randint(1, 512)]


def _repeat(random: Random, data: bytearray) -> None:
    at = random.randint(0, len(data))
    piece = data[at : at + random.randint(1, 2048)]
    to = random.randint(0, len(data))
    data[to:to] = piece * random.choice((1, 1, 2, 50))


def _edit_head(random: Random, data: bytearray) -> None:
    _write_number(random, data, random.randrange(HEAD_BYTES))


def _lie(random: Random, data: bytearray) -> None:
    """Change a number close behind the name of a chunk, a block or a page."""
    names = list(_LENGTHS.finditer(data))
    if names:
        _write_number(random, data, random.choice(names).end() + random.randrange(24))


def _write_number(random: Random, data: bytearray, at: int) -> None:
    size = random.choice((1, 2, 4))
    value = random.choice((*EXTREMES, random.getrandbits(32))) % 256**size
    if at + size <= len(data):
        data[at : at + size] = value.to_bytes(size, random.choice(("little", "big")))


MUTATIONS: tuple[Mutation, ...] = (
    _flip,
    _overwrite,
    _truncate,
    _cut_out,
    _repeat,
    _edit_head,
    _lie,
)


def _with_checksums(data: bytearray) -> bytes:
    """Make the checksum of every Ogg page right (RFC 3533)."""
    for page in re.finditer(rb"OggS", bytes(data)):
        start = page.start()
        segments = data[start + 26] if start + 27 <= len(data) else 0
        end = start + 27 + segments + sum(data[start + 27 : start + 27 + segments])
        if start + 27 <= end <= len(data):
            data[start + 22 : start + 26] = bytes(4)
            data[start + 22 : start + 26] = _ogg_crc(data[start:end]).to_bytes(4, "little")
    return bytes(data)


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
        table.append(value & 0xFFFFFFFF)
    return tuple(table)


def _ogg_crc(page: bytes | bytearray) -> int:
    table, crc = _crc_table(), 0
    for byte in page:
        crc = (crc << 8) & 0xFFFFFFFF ^ table[crc >> 24 ^ byte]
    return crc
