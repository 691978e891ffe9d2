"""The decoder: every accepted format comes out alike, and nothing a stranger sends gets further."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service import audio
from service.audio import MAX_CHANNELS, MAX_DURATION_S, MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, decode
from service.domain import (
    SAMPLE_RATE,
    BadSampleRate,
    Clip,
    NoSamples,
    NotAudio,
    NotFinite,
    TimbreError,
    TooLong,
    TooManyChannels,
    UnsupportedFormat,
)
from tests.support.audio import encoded

RATES = (8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000)
PCM = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
LOSSLESS = [
    *(("WAV", subtype) for subtype in PCM),
    *(("WAVEX", subtype) for subtype in PCM),
    ("FLAC", "PCM_S8"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
]
VORBIS, OPUS, MP3 = ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")
FORMATS = [
    *((form, rate, channels) for form in LOSSLESS for rate in RATES for channels in (1, 2, 8)),
    *((VORBIS, rate, channels) for rate in RATES for channels in (1, 2, 8)),
    *((OPUS, rate, channels) for rate in (8_000, 16_000, 48_000) for channels in (1, 2, 8)),
    # An MP3 has two channels at most, and MPEG no rate above 48 kHz.
    *((MP3, rate, channels) for rate in RATES if rate <= 48_000 for channels in (1, 2)),
]
TONE_HZ = 440
AMPLITUDE = 0.5


def tone(rate: int, channels: int = 1, seconds: float = 1.0) -> NDArray[np.float32]:
    """Make the same sine in every channel, float32 [n, channels]."""
    time = np.arange(round(rate * seconds)) / rate
    wave = AMPLITUDE * np.sin(2 * np.pi * TONE_HZ * time)
    return np.tile(wave.astype(np.float32)[:, None], (1, channels))


def noise(rate: int, seconds: float) -> NDArray[np.float32]:
    """Make two channels of noise: each sample differs from its neighbours."""
    random = np.random.default_rng(0)
    return random.uniform(-0.5, 0.5, (round(rate * seconds), 2)).astype(np.float32)


def wav(samples: NDArray[np.float32], rate: int = SAMPLE_RATE, subtype: str = "PCM_16") -> bytes:
    """Write a WAV."""
    return encoded(samples, rate, container="WAV", subtype=subtype)


def with_data_size(file: bytes, size: int) -> bytes:
    """Make the data chunk of a WAV say another size."""
    at = file.index(b"data") + 4
    return file[:at] + size.to_bytes(4, "little") + file[at + 4 :]


def with_flac_length(file: bytes, frames: int) -> bytes:
    """Make a FLAC's STREAMINFO say another number of frames; 0 means that it is not known."""
    assert file[21] >> 4 << 4 == file[21], "a length of 36 bits"
    return file[:22] + frames.to_bytes(4, "big") + file[26:]


def tagged(file: bytes, size: int = 1000) -> bytes:
    """Put an ID3 tag of so many bytes before a file."""
    digits = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\0\0" + digits + bytes(size) + file


@pytest.mark.parametrize(
    ("form", "rate", "channels"),
    FORMATS,
    ids=[f"{'-'.join(form)}-{rate}-{channels}" for form, rate, channels in FORMATS],
)
def test_a_tone_keeps_its_length_pitch_and_level(
    form: tuple[str, str], rate: int, channels: int
) -> None:
    """Whatever the container, encoding, rate and channels: 16 kHz mono with the same tone."""
    container, subtype = form
    clip = decode(encoded(tone(rate, channels), rate, container=container, subtype=subtype))

    assert clip.samples.dtype == np.float32
    assert (clip.sample_rate, clip.channels) == (rate, channels)
    assert clip.duration_s == pytest.approx(1.0, abs=1e-9)
    assert clip.samples.shape == pytest.approx((SAMPLE_RATE,), abs=1)
    middle = clip.samples[SAMPLE_RATE // 4 : -SAMPLE_RATE // 4].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(middle.size)))
    assert spectrum.argmax() * SAMPLE_RATE / middle.size == pytest.approx(TONE_HZ, abs=2)
    level = np.sqrt(2 * np.mean(middle**2)) / AMPLITUDE
    # Opus spends few bits on a tone in a narrow band, and says it more softly.
    assert level == pytest.approx(1.0, rel=0.15 if form == OPUS else 0.02)


@pytest.mark.parametrize("form", [*LOSSLESS, VORBIS], ids="-".join)
def test_channels_are_mixed_to_their_mean(form: tuple[str, str]) -> None:
    """Opposite channels cancel, and one of two is half as loud."""
    both = tone(SAMPLE_RATE, 2)
    container, subtype = form
    opposite = decode(
        encoded(
            both * np.array([1, -1], np.float32), SAMPLE_RATE, container=container, subtype=subtype
        )
    )
    left = decode(
        encoded(
            both * np.array([1, 0], np.float32), SAMPLE_RATE, container=container, subtype=subtype
        )
    )
    assert np.abs(opposite.samples).max() < 0.02
    assert np.abs(left.samples).max() == pytest.approx(AMPLITUDE / 2, rel=0.05)


@pytest.mark.parametrize("form", [LOSSLESS[1], LOSSLESS[13], VORBIS, OPUS, MP3], ids="-".join)
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_the_block_size_changes_no_sample(
    form: tuple[str, str], rate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding and resampling in pieces is decoding and resampling in one.

    soundfile seeks between reads, which changed the last samples of MP3 and Opus with the block
    size; this decoder doesn't seek, so no tail is excepted here.
    """
    container, subtype = form
    file = encoded(noise(rate, 2.1), rate, container=container, subtype=subtype)
    whole = decode(file).samples
    for frames in (997, 4096, 10**6):
        monkeypatch.setattr(audio, "BLOCK_FRAMES", frames)
        assert np.array_equal(decode(file).samples, whole), frames


class TestLimits:
    """Each limit is accepted exactly at its value and refused one beyond it."""

    @pytest.mark.parametrize("container", ["WAV", "FLAC"])
    def test_duration(self, container: str) -> None:
        frames = round(MAX_DURATION_S * MIN_SAMPLE_RATE)
        sound = np.zeros((frames + 1, 1), np.float32)
        longest = encoded(sound[:-1], MIN_SAMPLE_RATE, container=container)
        assert decode(longest).duration_s == MAX_DURATION_S
        with pytest.raises(TooLong, match=r"60\.0 s; at most 60 s"):
            decode(encoded(sound, MIN_SAMPLE_RATE, container=container))

    @pytest.mark.parametrize("rate", RATES)
    def test_a_shorter_duration_when_asked(self, rate: int) -> None:
        sound = tone(rate, seconds=0.6)
        longest = rate // 2
        clip = decode(wav(sound[:longest], rate), max_duration_s=0.5)
        assert clip.duration_s == pytest.approx(longest / rate)
        with pytest.raises(TooLong):
            decode(wav(sound[: longest + 1], rate), max_duration_s=0.5)

    @pytest.mark.parametrize("rate", [MIN_SAMPLE_RATE, MAX_SAMPLE_RATE])
    def test_a_rate_that_is_just_accepted(self, rate: int) -> None:
        assert decode(wav(tone(rate, seconds=0.1), rate)).sample_rate == rate

    @pytest.mark.parametrize("rate", [1, MIN_SAMPLE_RATE - 1, MAX_SAMPLE_RATE + 1, 2**31 - 1])
    def test_a_rate_that_is_refused(self, rate: int) -> None:
        with pytest.raises(BadSampleRate, match=str(rate)):
            decode(wav(np.zeros((160, 1), np.float32), rate))

    @pytest.mark.parametrize("container", ["WAV", "WAVEX"])
    def test_channels(self, container: str) -> None:
        most = encoded(tone(SAMPLE_RATE, MAX_CHANNELS, 0.1), container=container)
        assert decode(most).channels == MAX_CHANNELS
        for channels in (MAX_CHANNELS + 1, 1024):
            with pytest.raises(TooManyChannels, match=str(channels)):
                decode(encoded(tone(SAMPLE_RATE, channels, 0.01), container=container))


class TestSniffing:
    """Formats are allowed by name, whatever libsndfile would make of the bytes."""

    @pytest.mark.parametrize(
        "start",
        [
            b"\x1a\x45\xdf\xa3",
            b"FORM\0\0\0\0AIFF",
            b".snd",
            b"caff",
            b"RF64\0\0\0\0WAVE",
            b"#!AMR\n",
            b"0&\xb2u\x8ef\xcf\x11",
            b"\0\0\0\x20ftypM4A ",
        ],
    )
    def test_another_audio_format_is_named(self, start: bytes) -> None:
        """The caller learns what was sent and what to send."""
        with pytest.raises(UnsupportedFormat, match="is not accepted; send WAV"):
            decode(start + bytes(64))

    @pytest.mark.parametrize("container", ["AIFF", "AU", "CAF", "RF64"])
    def test_a_real_file_of_another_format_is_refused(self, container: str) -> None:
        with pytest.raises(UnsupportedFormat):
            decode(encoded(tone(SAMPLE_RATE), container=container, subtype="PCM_16"))

    @pytest.mark.parametrize("size", [10, 1000, 300_000])
    @pytest.mark.parametrize("form", [MP3, ("FLAC", "PCM_16"), ("FLAC", "PCM_24")], ids="-".join)
    def test_an_id3_tag_changes_nothing(self, form: tuple[str, str], size: int) -> None:
        """Taggers put them before FLACs too, with pictures as large as they like."""
        container, subtype = form
        file = encoded(tone(SAMPLE_RATE, 2), container=container, subtype=subtype)
        assert np.array_equal(decode(tagged(file, size)).samples, decode(file).samples)

    @pytest.mark.parametrize("size", [10, 1000, 300_000])
    @pytest.mark.parametrize("container", ["WAV", "OGG", "AIFF", "AU", "CAF"])
    def test_no_other_format_has_an_id3_tag(self, container: str, size: int) -> None:
        with pytest.raises((NotAudio, UnsupportedFormat)):
            decode(tagged(encoded(tone(SAMPLE_RATE), container=container), size))

    @pytest.mark.parametrize("known", [True, False])
    def test_the_limits_hold_behind_an_id3_tag(self, *, known: bool) -> None:
        """Those of a header, and those of what is really there."""
        long = encoded(np.zeros((61 * 8000, 1), np.float32), 8000, container="FLAC")
        with pytest.raises(TooLong):
            decode(tagged(long if known else with_flac_length(long, 0)))
        with pytest.raises(BadSampleRate):
            decode(tagged(encoded(tone(4000), 4000, container="FLAC")))

    @pytest.mark.parametrize("subtype", ["ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"])
    def test_another_encoding_in_a_wav_is_refused(self, subtype: str) -> None:
        with pytest.raises(UnsupportedFormat, match=subtype):
            decode(encoded(tone(8000), 8000, container="WAV", subtype=subtype))

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"R",
            b"RIFF",
            b"RIFF\0\0\0\0AVI ",
            b"\xff",
            b"\xff\xf1\x50\x80",  # AAC's ADTS: the layer bits are 00
            b"\xff\xd8\xff\xe0",  # JPEG
            b"\x80\x05\x95",  # a pickle
            b"PK\x03\x04",
            b"{}",
            b"\x7fELF",
        ],
    )
    def test_what_is_no_audio_is_called_so(self, data: bytes) -> None:
        with pytest.raises(NotAudio):
            decode(data + bytes(bool(data)))

    @pytest.mark.parametrize("magic", [b"RIFF\0\0\0\0WAVE", b"fLaC", b"OggS", b"ID3", b"\xff\xfb"])
    def test_a_magic_alone_is_no_audio(self, magic: bytes) -> None:
        with pytest.raises(NotAudio):
            decode(magic + bytes(64))


class TestLyingHeaders:
    """What is really in a file counts, not what its header says."""

    sound = tone(SAMPLE_RATE, seconds=0.5)

    @pytest.mark.parametrize("size", [20_000, 1_000_000, 2**31 - 1, 2**32 - 1])
    def test_a_size_too_big_gives_the_real_samples(self, size: int) -> None:
        """2^32 - 1 is also what a program writes that records to a pipe."""
        assert decode(with_data_size(wav(self.sound), size)).samples.size == 8000

    def test_a_size_too_small_gives_what_it_says(self) -> None:
        assert decode(with_data_size(wav(self.sound), 8000)).samples.size == 4000

    @pytest.mark.parametrize("size", [0, 1])
    def test_a_size_without_a_sample_is_refused(self, size: int) -> None:
        with pytest.raises(NoSamples):
            decode(with_data_size(wav(self.sound), size))

    @pytest.mark.parametrize("container", ["WAV", "WAVEX"])
    def test_an_empty_file_is_refused(self, container: str) -> None:
        with pytest.raises(NoSamples):
            decode(encoded(np.zeros((0, 1), np.float32), container=container))

    def test_a_truncated_file_gives_what_is_there_or_is_refused(self) -> None:
        """At every length of the header, and at some of the data."""
        whole = wav(self.sound)
        for length in (*range(64), 1000, len(whole) - 1):
            try:
                clip = decode(whole[:length])
            except (NotAudio, NoSamples):
                assert length < 46, length
            else:
                assert 1 <= clip.samples.size <= (length - 44) // 2

    def test_a_flac_that_does_not_know_its_length_is_read_to_its_end(self) -> None:
        """What an encoder leaves in the header when it writes to a pipe is no length of 18 Ey."""
        file = encoded(self.sound, container="FLAC", subtype="PCM_16")
        clip = decode(with_flac_length(file, 0))
        assert np.array_equal(clip.samples, decode(file).samples)

    @pytest.mark.parametrize("claimed", [0, 16_000])
    def test_a_long_flac_is_no_longer_than_its_header_says(self, claimed: int) -> None:
        """Too long when the length is unknown; otherwise no more than claimed is read."""
        file = encoded(np.zeros((61 * 8000, 1), np.float32), 8000, container="FLAC")
        lying = with_flac_length(file, claimed)
        if claimed:
            assert decode(lying).duration_s == claimed / 8000
        else:
            with pytest.raises(TooLong):
                decode(lying)

    @pytest.mark.parametrize(("rate", "frames"), [(44_100, 1), (96_000, 2), (192_000, 5)])
    def test_less_than_one_sample_at_16_khz_is_none(self, rate: int, frames: int) -> None:
        """Such a clip resamples to nothing, which nobody can classify."""
        with pytest.raises(NoSamples):
            decode(wav(np.full((frames, 1), 0.5, np.float32), rate))

    def test_one_sample_is_a_clip(self) -> None:
        assert decode(wav(np.full((1, 1), 0.5, np.float32))).samples.tolist() == [0.5]


class TestStrangeNumbers:
    """Float files can hold what PCM can't."""

    @pytest.mark.parametrize("rate", [8000, SAMPLE_RATE, 44_100])
    @pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_one_sample_that_is_no_number_is_refused(
        self, value: float, subtype: str, rate: int
    ) -> None:
        sound = tone(rate, 2)
        sound[rate // 2, 1] = value
        with pytest.raises(NotFinite):
            decode(wav(sound, rate, subtype))

    def test_a_double_beyond_float32_is_refused(self) -> None:
        file = io.BytesIO()
        soundfile.write(file, np.full(16, 1e300), SAMPLE_RATE, format="WAV", subtype="DOUBLE")
        with pytest.raises(NotFinite):
            decode(file.getvalue())

    @pytest.mark.parametrize("rate", [8000, SAMPLE_RATE, 44_100])
    @pytest.mark.parametrize("peak", [1.5, 100.0, 32_768.0, 1e30])
    def test_what_is_beyond_full_scale_is_scaled_to_a_peak_of_1(
        self, peak: float, rate: int
    ) -> None:
        """A float file in the scale of 16-bit PCM is a clip like any other."""
        sound = tone(rate) * np.float32(peak / AMPLITUDE)
        clip = decode(wav(sound, rate, "FLOAT"))
        assert np.abs(clip.samples).max() == pytest.approx(1.0)
        middle = clip.samples[4000:12_000].astype(np.float64)
        assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(1.0, rel=0.02)

    def test_the_largest_floats_are_scaled_too(self) -> None:
        """Where nothing is resampled, which takes some headroom."""
        clip = decode(wav(tone(SAMPLE_RATE) * np.float32(2e38), subtype="FLOAT"))
        assert np.abs(clip.samples).max() == pytest.approx(1.0)

    def test_a_mix_that_overflows_is_refused(self) -> None:
        """Eight channels of 1e38 add up to more than a float32 holds."""
        with pytest.raises(NotFinite):
            decode(wav(np.full((160, 8), 1e38, np.float32), subtype="FLOAT"))

    def test_what_is_within_full_scale_keeps_its_level(self) -> None:
        """A soft clip isn't made louder."""
        clip = decode(wav(tone(SAMPLE_RATE) * np.float32(0.01), subtype="FLOAT"))
        assert np.abs(clip.samples).max() == pytest.approx(0.01 * AMPLITUDE, rel=1e-3)


VALID = [
    encoded(tone(rate, channels, 0.2), rate, container=form[0], subtype=form[1])
    for form, rate, channels in [
        (("WAV", "PCM_16"), 16_000, 1),
        (("WAVEX", "PCM_24"), 44_100, 2),
        (("WAV", "FLOAT"), 8_000, 1),
        (("FLAC", "PCM_16"), 16_000, 2),
        (VORBIS, 22_050, 1),
        (OPUS, 48_000, 2),
        (MP3, 44_100, 2),
    ]
]


def refused_or_sane(data: bytes) -> Clip | None:
    """Decode; anything but a TimbreError or a clip within the limits fails the test."""
    try:
        clip = decode(data)
    except TimbreError:
        return None
    assert 0 < clip.samples.size <= MAX_DURATION_S * SAMPLE_RATE + 1
    assert np.isfinite(clip.samples).all()
    assert np.abs(clip.samples).max() <= 1
    return clip


class TestAnyBytes:
    """Whatever the bytes, the answer is a clip within the limits or a reason."""

    @given(st.binary(max_size=4096))
    def test_random_bytes(self, data: bytes) -> None:
        refused_or_sane(data)

    @given(
        st.sampled_from([b"RIFF\0\0\0\0WAVEfmt ", b"fLaC", b"OggS", b"ID3", b"\xff\xfb"]),
        st.binary(max_size=4096),
    )
    def test_random_bytes_after_a_magic(self, magic: bytes, data: bytes) -> None:
        refused_or_sane(magic + data)

    @given(
        st.sampled_from(VALID),
        st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
        st.lists(st.tuples(st.integers(0, 127), st.integers(0, 255)), max_size=4),
        st.floats(0, 1),
    )
    @settings(max_examples=400)
    def test_damaged_files(
        self,
        file: bytes,
        anywhere: list[tuple[float, int]],
        in_the_header: list[tuple[int, int]],
        kept: float,
    ) -> None:
        """Some bytes changed, most of them where the header is, and the end cut off."""
        damaged = bytearray(file)
        for place, value in anywhere:
            damaged[int(place * len(file))] = value
        for index, value in in_the_header:
            damaged[index] = value
        refused_or_sane(bytes(damaged[: int(kept * len(file)) + 1]))


DECODE_AND_MEASURE = """
import resource, sys
from pathlib import Path
from service.audio import decode
from service.domain import TooLong
small, bomb = (Path(name).read_bytes() for name in sys.argv[1:])
decode(small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode(bomb)
except TooLong:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
"""Prints by how many KiB the largest resident memory has grown."""


@pytest.mark.parametrize("length_known", [True, False])
def test_hours_of_silence_in_a_small_file_cost_no_memory(
    tmp_path: Path, *, length_known: bool
) -> None:
    """A FLAC bomb is refused by its header; when that says nothing, after the minute allowed.

    In a process of its own, whose largest memory is then this test's.
    """
    hours, rate = 2, 16_000
    file = io.BytesIO()
    silence = np.zeros((60 * rate, 2), np.int16)
    with soundfile.SoundFile(file, "w", rate, 2, "PCM_16", format="FLAC") as flac:
        for _ in range(hours * 60):
            flac.write(silence)
    bomb = file.getvalue()
    decoded_bytes = hours * 3600 * rate * 2 * 4
    assert decoded_bytes > 1000 * len(bomb)
    (tmp_path / "small").write_bytes(VALID[3])
    (tmp_path / "bomb").write_bytes(bomb if length_known else with_flac_length(bomb, 0))

    done = subprocess.run(
        [sys.executable, "-c", DECODE_AND_MEASURE, tmp_path / "small", tmp_path / "bomb"],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    # A minute at 16 kHz is 3.8 MB; a block and what numpy keeps come on top.
    assert int(done.stdout) < 32 * 1024
