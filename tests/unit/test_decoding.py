"""Decoder processes: the same samples as in this one, and what a hostile clip can't do."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from service.audio import MAX_BODY_BYTES, MAX_DURATION_S, decode
from service.decoding.child import MAX_SAMPLES, Child
from service.decoding.pool import MAX_FAILED_STARTS, MODULE, DecoderPool
from service.decoding.process import (
    ANSWER,
    CPU_LIMIT_S,
    HEADROOM_BYTES,
    MAX_DETAIL_BYTES,
    REFUSALS,
)
from service.domain import (
    Clip,
    NotAudio,
    NotReady,
    TimbreError,
    Undecodable,
    UnsupportedFormat,
    UnusableClip,
)
from tests.support.audio import encoded, speech_like
from tests.support.misbehaving import misbehaving_pool

LIMIT_S = 1.0
"""For one clip, on the pools of this module: far more than an honest one takes."""
PATIENCE_S = 60.0
SPEECH = encoded(speech_like(2.0))
KINDS = [
    *(("WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
    ("WAVEX", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether a process has ended; whose child it was may not have noticed yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def outcome(decoder: Callable[[bytes], Clip], data: bytes) -> tuple[object, ...]:
    """What a decoder makes of a file, to be compared bit by bit."""
    try:
        clip = decoder(data)
    except TimbreError as error:
        return type(error), str(error)
    return clip.samples.tobytes(), clip.samples.dtype, clip.duration_s, *_facts(clip)


def _facts(clip: Clip) -> tuple[int, int]:
    return clip.sample_rate, clip.channels


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Write a file of any format, within the limits or just outside, whole or cut off.

    Only as libsndfile's encoders can take it: for NaN or odd rates some of them end the process.
    """
    container, subtype = draw(st.sampled_from(KINDS))
    lossy = container in {"OGG", "MP3"}
    odd_rates = () if lossy else (7_999, 11_025, 44_100, 192_000, 192_001)
    rate = draw(st.sampled_from((8_000, 16_000, 48_000, *odd_rates)))
    channels = draw(st.integers(1, 2 if lossy else 8 if container == "FLAC" else 9))
    frames = draw(st.integers(0, 20_000))
    level = draw(st.sampled_from((0.3, 3.0, np.nan) if subtype in {"FLOAT", "DOUBLE"} else (0.3,)))
    samples = np.random.default_rng(frames).uniform(-1, 1, (frames, channels)) * level
    try:
        data = encoded(samples.astype(np.float32), rate, container=container, subtype=subtype)
    except soundfile.LibsndfileError:  # it takes not every rate
        data = container.encode()
    return data[: round(draw(st.floats(0, 1) | st.just(1.0)) * len(data))]


def answer(
    kind: int = 0, channels: int = 1, rate: int = 16_000, frames: int = 4, size: int = 4
) -> bytes:
    """Write the header of an answer."""
    return ANSWER.pack(kind, channels, rate, frames, size)


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    """Two honest decoders."""
    pool = DecoderPool(2)
    pool.wait_until_ready()
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def lost() -> list[str]:
    """Why decoders of `bad` were replaced."""
    return []


@pytest.fixture(scope="module")
def bad(lost: list[str]) -> Iterator[DecoderPool]:
    """Two decoders that do what a clip tells them."""
    with misbehaving_pool(2, lost=lost.append, limit_s=LIMIT_S) as pool:
        yield pool


class TestSamples:
    """A process more changes no bit."""

    @settings(max_examples=60)
    @given(data=files())
    def test_they_are_those_of_decoding_here(self, pool: DecoderPool, data: bytes) -> None:
        """Whatever the format, and so are the refusals, to the word."""
        assert outcome(pool.decode, data) == outcome(decode, data)

    def test_every_refusal_has_its_number(self) -> None:
        """A decoder that raises another one ends."""
        raised = {NotAudio, UnsupportedFormat, *UnusableClip.__subclasses__()} - {Undecodable}
        assert set(REFUSALS) == raised

    @pytest.mark.parametrize("beyond", [0, 1])
    def test_a_clip_at_the_limit_fits(self, pool: DecoderPool, beyond: int) -> None:
        """60 s to the frame, and the longest body; one frame more is refused as it is here."""
        frames = int(MAX_DURATION_S) * 44_100 + beyond
        data = encoded(np.full((frames, 1), 0.25, np.float32), 44_100, subtype="PCM_16")
        data += bytes(MAX_BODY_BYTES - len(data))
        assert outcome(pool.decode, data) == outcome(decode, data)


class TestMisbehaviour:
    """One clip breaks its decoder; it alone is refused, and the decoder is replaced."""

    @pytest.mark.parametrize(
        ("clip", "reason"),
        [
            (b"segfault", "died"),
            (b"exit", "died"),
            (b"raise", "died"),
            (b"allocate %d" % (5 * HEADROOM_BYTES // 4), "died"),
            (b"hang_up", "died"),
            (b"sleep 3600", "overran"),
            (b"spin", "overran"),
            (b"say ", "overran"),
            (b"say something else than an answer", "garbled"),
            (b"say " + answer()[:-1], "overran"),
            (b"say " + answer() + np.full(4, 0.5, np.float32).tobytes()[:-1], "overran"),
            (b"say " + answer() + np.full(4, 1.01, np.float32).tobytes(), "garbled"),
            (b"say " + answer() + np.full(4, np.nan, np.float32).tobytes(), "garbled"),
            (b"say " + answer() + np.full(4, -np.inf, np.float32).tobytes(), "garbled"),
            (b"say " + answer(channels=0), "garbled"),
            (b"say " + answer(channels=9), "garbled"),
            (b"say " + answer(rate=7_999), "garbled"),
            (b"say " + answer(rate=192_001), "garbled"),
            (b"say " + answer(rate=0), "garbled"),
            (b"say " + answer(frames=0), "garbled"),
            (b"say " + answer(frames=60 * 16_000 + 1), "garbled"),
            (b"say " + answer(size=0), "garbled"),
            (b"say " + answer(size=MAX_SAMPLES + 1), "garbled"),
            (b"say " + answer(size=2**32 - 1), "garbled"),
            (b"say " + answer(kind=len(REFUSALS) + 1, size=1) + b"x", "garbled"),
            (b"say " + answer(kind=1, size=MAX_DETAIL_BYTES + 1), "garbled"),
            (b"say " + answer(kind=1, size=2) + b"x", "overran"),
        ],
    )
    def test_it_is_undecodable(
        self, bad: DecoderPool, lost: list[str], clip: bytes, reason: str
    ) -> None:
        """Within its time, and counted by what went wrong."""
        before = set(bad.pids)
        lost.clear()
        started = time.monotonic()
        with pytest.raises(Undecodable):
            bad.decode(clip)
        if reason == "overran":
            assert time.monotonic() - started >= LIMIT_S
        assert lost == [reason]
        eventually(lambda: len(bad.pids) == 2)
        assert len(before & set(bad.pids)) == 1
        assert outcome(bad.decode, SPEECH) == outcome(decode, SPEECH)

    @pytest.mark.parametrize(
        "clip",
        [
            b"sleep 0.05",
            b"allocate %d" % (HEADROOM_BYTES // 2),
        ],
    )
    def test_what_is_within_its_limits_is_decoded(self, bad: DecoderPool, clip: bytes) -> None:
        """And the decoder stays."""
        before = bad.pids
        assert bad.decode(clip).sample_rate == 32_000
        assert bad.pids == before

    @pytest.mark.parametrize(
        "words",
        [
            answer(channels=8, rate=192_000, frames=60 * 192_000) + bytes(16),
            answer(rate=8_000, frames=1, size=1) + np.float32(-1).tobytes(),
        ],
    )
    def test_an_answer_at_the_limits_is_believed(self, words: bytes) -> None:
        """And the answer is all it says."""
        with misbehaving_pool(1) as pool:
            clip = pool.decode(b"say " + words)
            assert clip.samples.tobytes() == words[ANSWER.size :]

    def test_a_detail_at_its_limit_is_passed_on(self) -> None:
        """Whatever bytes it is made of."""
        with misbehaving_pool(1) as pool:
            head = answer(kind=len(REFUSALS), size=MAX_DETAIL_BYTES)
            with pytest.raises(REFUSALS[-1], match="�"):
                pool.decode(b"say " + head + b"\xff" * MAX_DETAIL_BYTES)

    def test_words_that_nobody_asked_for_spoil_no_other_clip(
        self, bad: DecoderPool, lost: list[str]
    ) -> None:
        """They would be taken for the next clip's answer: the process is replaced first."""
        lost.clear()
        bad.decode(b"later")
        eventually(lambda: lost == ["garbled"])
        assert outcome(bad.decode, SPEECH) == outcome(decode, SPEECH)

    def test_clips_beside_it_are_decoded(self, bad: DecoderPool) -> None:
        """Those of all other threads, while decoders die one after the other."""
        clips = [SPEECH] * 20
        for at, hostile in enumerate((b"segfault", b"exit", b"hang_up", b"sleep 3600")):
            clips.insert(5 * at + 1, hostile)
        with ThreadPoolExecutor(2) as threads:
            outcomes = list(threads.map(lambda clip: outcome(bad.decode, clip), clips))
        honest = outcome(decode, SPEECH)
        assert [done == honest for done in outcomes] == [clip is SPEECH for clip in clips]


class TestInnocence:
    """A decoder that ends of something else takes no clip with it."""

    def test_a_decoder_killed_at_rest_is_replaced(self, bad: DecoderPool, lost: list[str]) -> None:
        """Without any clip having to find out, and without a zombie."""
        eventually(lambda: len(bad.pids) == 2)
        lost.clear()
        killed = bad.pids
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        assert outcome(bad.decode, SPEECH) == outcome(decode, SPEECH)
        eventually(lambda: len(bad.pids) == 2 and not set(killed) & set(bad.pids))
        assert lost == ["died", "died"]
        assert not any(psutil.pid_exists(pid) for pid in killed)

    def test_a_clip_that_was_not_read_goes_to_another_decoder(self) -> None:
        """A decoder killed while the clip is on its way was not killed by the clip."""
        with misbehaving_pool(1) as pool, ThreadPoolExecutor(1) as thread:
            (pid,) = pool.pids
            os.kill(pid, signal.SIGSTOP)
            decoding = thread.submit(outcome, pool.decode, SPEECH)
            eventually(pool._idle.empty)
            time.sleep(0.1)  # for the clip to be sent; sooner or later, the test passes
            os.kill(pid, signal.SIGKILL)
            assert decoding.result(PATIENCE_S) == outcome(decode, SPEECH)

    def test_a_clip_that_no_decoder_lives_to_read_is_given_up(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where decoders end for want of the memory to take it in, say."""
        with misbehaving_pool(1) as pool:
            monkeypatch.setattr("service.decoding.pool.ATTEMPTS", 0)
            with pytest.raises(Undecodable):
                pool.decode(SPEECH)


class TestConfinement:
    """What a decoder could do if a clip took it over."""

    def test_its_limits_are_hard(self, pool: DecoderPool) -> None:
        """No core, no file, no new descriptor, no process, bounded memory."""
        pool.decode(SPEECH)
        for pid in pool.pids:
            for limit, value in (
                (resource.RLIMIT_CORE, 0),
                (resource.RLIMIT_FSIZE, 0),
                (resource.RLIMIT_NPROC, 0),
                (resource.RLIMIT_NOFILE, 3),
            ):
                assert resource.prlimit(pid, limit) == (value, value)
            memory, hard = resource.prlimit(pid, resource.RLIMIT_AS)
            assert HEADROOM_BYTES < memory == hard < 8 * HEADROOM_BYTES
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            assert "NoNewPrivs:\t1" in status
            assert len(list(Path(f"/proc/{pid}/fd").iterdir())) == 3

    def test_it_opens_no_file(self, bad: DecoderPool) -> None:
        """EMFILE: there is no descriptor left for one."""
        with pytest.raises(NotAudio, match=f"OSError {errno.EMFILE}"):
            bad.decode(b"open /dev/null")

    def test_its_cpu_time_is_bounded_by_the_kernel_too(self) -> None:
        """For the case that the server can't end it; the limit moves on with each clip."""
        pool = DecoderPool(1)
        try:
            pool.wait_until_ready()
            pool.decode(SPEECH)
            (pid,) = pool.pids
            soft, _ = resource.prlimit(pid, resource.RLIMIT_CPU)
            used = sum(psutil.Process(pid).cpu_times()[:2])
            assert used < soft - CPU_LIMIT_S + 1 <= used + 2
        finally:
            pool.close()

    def test_the_kernel_s_limit_counts_as_overrunning(self, lost: list[str]) -> None:
        """Whoever notices first."""
        with misbehaving_pool(1, lost=lost.append) as pool, ThreadPoolExecutor(1) as thread:
            lost.clear()
            (pid,) = pool.pids
            decoding = thread.submit(outcome, pool.decode, b"sleep 3600")
            eventually(pool._idle.empty)
            time.sleep(0.1)  # for the clip to be read
            os.kill(pid, signal.SIGXCPU)
            assert decoding.result(PATIENCE_S)[0] is Undecodable
            assert lost == ["overran"]

    def test_it_sees_no_secret(self, pool: DecoderPool) -> None:
        """The server's environment, which may hold some, is not a decoder's."""
        for pid in pool.pids:
            assert set(psutil.Process(pid).environ()) <= {
                "LC_CTYPE",
                "LD_LIBRARY_PATH",
                "MALLOC_MMAP_THRESHOLD_",
                "MALLOC_TRIM_THRESHOLD_",
                "OPENBLAS_NUM_THREADS",
            }

    def test_signals_to_everyone_leave_it_to_the_server(self, pool: DecoderPool) -> None:
        """Ctrl-C and a service manager's SIGTERM come to all; clips inside are still decoded."""
        before = pool.pids
        for pid in before:
            assert os.getsid(pid) == pid
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)
        assert outcome(pool.decode, SPEECH) == outcome(decode, SPEECH)
        assert pool.pids == before


class TestEnd:
    """No decoder outlives the server."""

    def test_closing_leaves_no_process(self) -> None:
        """Not even of one that hangs; its clip is told that the server goes, as are later ones."""
        with misbehaving_pool(2) as pool, ThreadPoolExecutor(1) as thread:
            pids = pool.pids
            decoding = thread.submit(outcome, pool.decode, b"sleep 3600")
            eventually(lambda: pool._idle.qsize() == 1)
            pool.close()
            assert not any(psutil.pid_exists(pid) for pid in pids)
            assert decoding.result(PATIENCE_S)[0] is NotReady
            with pytest.raises(NotReady):
                pool.decode(SPEECH)
            assert not pool._keeper.is_alive()

    def test_a_clip_that_meets_the_end_is_told_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The process that it has just been given is gone by then, and its socket closed."""
        with misbehaving_pool(1) as pool:
            take = pool._take

            def take_the_last() -> Child:
                child = take()
                pool.close()
                return child

            monkeypatch.setattr(pool, "_take", take_the_last)
            with pytest.raises(NotReady):
                pool.decode(SPEECH)

    def test_a_killed_server_leaves_no_process(self) -> None:
        """Idle ones see their socket closed; one that hangs is ended by the kernel."""
        code = (
            "import threading; from tests.support.misbehaving import misbehaving_pool\n"
            "with misbehaving_pool(2) as pool:\n"
            "    threading.Thread(target=pool.decode, args=(b'sleep 3600',), daemon=True).start()\n"
            "    while pool._idle.qsize() == 2: pass\n"
            "    print(*pool.pids, flush=True)\n"
            "    input()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        ) as server:
            assert server.stdout is not None
            pids = [int(pid) for pid in server.stdout.readline().split()]
            assert len(pids) == 2
            server.kill()
        eventually(lambda: all(gone(pid) for pid in pids))


class TestStart:
    """Decoders that can't be started, now or any more."""

    def test_a_pool_that_never_starts_says_so(self) -> None:
        """The server then doesn't start either."""
        pool = DecoderPool(1, module="service.no_such_module")
        try:
            with pytest.raises(RuntimeError, match="cannot be started"):
                pool.wait_until_ready()
            assert not pool.alive
        finally:
            pool.close()

    def test_it_is_dead_after_many_failures_and_alive_after_one_success(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A container that is started again may find what this one misses, such as memory."""
        monkeypatch.setattr("service.decoding.pool.MAX_RETRY_START_S", 0.05)
        with misbehaving_pool(1) as pool:
            pool._module = "service.no_such_module"
            with pytest.raises(Undecodable):
                pool.decode(b"exit")
            eventually(lambda: not pool.alive)
            assert pool._failed_starts >= MAX_FAILED_STARTS
            pool._module = MODULE
            eventually(lambda: pool.alive)
            assert outcome(pool.decode, SPEECH) == outcome(decode, SPEECH)

    def test_clips_wait_for_a_decoder_but_not_for_ever(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """503, not a request that hangs."""
        with misbehaving_pool(1) as pool:
            pool._idle.get()  # nobody will bring it back
            monkeypatch.setattr("service.decoding.pool.START_LIMIT_S", 0.1)
            with pytest.raises(NotReady):
                pool.decode(SPEECH)

    def test_there_is_at_least_one(self) -> None:
        with pytest.raises(ValueError, match="size=0"):
            DecoderPool(0)
