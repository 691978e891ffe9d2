"""Tokens: what a file of them may have, which are accepted, and when a change of it is seen."""

from __future__ import annotations

import hmac
import logging
import os
import traceback
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access import (
    CHECK_S,
    MAX_FILE_BYTES,
    MAX_TOKENS,
    MIN_TOKEN_CHARS,
    TokenError,
    Tokens,
    parse,
    well_formed,
)
from tests.support.tokens import FIRST, SECOND, UNKNOWN, Secret, token_file

ALPHABET = "ABCXYZabcxyz0189-._~+/"
TOKEN = st.text(ALPHABET, min_size=MIN_TOKEN_CHARS, max_size=MIN_TOKEN_CHARS + 8)
COMMENT = st.text(st.characters(codec="utf-8", exclude_characters="\n")).map("#{}".format)
ENCODING = st.sampled_from(["utf-8", "utf-8-sig"])
BLANK = st.sampled_from(["", " ", "\t", "\r"])
LINE = st.one_of(
    BLANK.map(lambda blank: (None, blank)),
    COMMENT.map(lambda comment: (None, comment)),
    st.tuples(TOKEN, BLANK, BLANK, st.one_of(st.just(""), COMMENT)).map(
        lambda parts: (parts[0], parts[1] + parts[0] + parts[2] + parts[3])
    ),
)


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


def accepted(tokens: Tokens) -> list[str]:
    """Name which of the tests' tokens are accepted."""
    return [token for token in (FIRST, SECOND, UNKNOWN) if tokens.accept(token.encode())]


class TestParser:
    """A token a line, blank lines and comments between them."""

    @given(st.lists(LINE, max_size=MAX_TOKENS), st.sampled_from(["\n", "\r\n"]), ENCODING)
    def test_all_tokens_are_read_and_nothing_else_is_one(
        self, lines: list[tuple[str | None, str]], end: str, encoding: str
    ) -> None:
        """However they are indented, commented, ended, or marked as UTF-8."""
        text = end.join(line for _, line in lines).encode(encoding)
        tokens = {token.encode() for token, _ in lines if token is not None}
        if tokens:
            assert set(parse(text)) == tokens
        else:
            with pytest.raises(ValueError, match="it has no token"):
                parse(text)

    @given(st.binary(max_size=200))
    def test_any_bytes_are_tokens_or_refused(self, data: bytes) -> None:
        """With a reason; never another error, and never a token that no header can carry."""
        with suppress(ValueError):
            for token in parse(data):
                assert well_formed(token.decode())
                assert len(token) >= MIN_TOKEN_CHARS

    def test_a_token_twice_is_one(self) -> None:
        """Two files put together may have it twice."""
        assert parse(f"{FIRST}\n{SECOND}\n{FIRST}".encode()) == (FIRST.encode(), SECOND.encode())

    def test_a_token_may_be_as_short_as_this_and_no_shorter(self) -> None:
        """At the least length it is taken; one character less is refused by its line."""
        assert parse(b"a" * MIN_TOKEN_CHARS)
        with pytest.raises(ValueError, match=f"line 2 has fewer than {MIN_TOKEN_CHARS} characters"):
            parse(b"# this one:\n" + b"a" * (MIN_TOKEN_CHARS - 1))

    def test_there_may_be_so_many_and_no_more(self) -> None:
        """The most are taken, one more is refused."""
        lines = [f"{number:032}" for number in range(MAX_TOKENS + 1)]
        assert len(parse("\n".join(lines[:-1]).encode())) == MAX_TOKENS
        with pytest.raises(ValueError, match=f"it has more than {MAX_TOKENS} tokens"):
            parse("\n".join(lines).encode())

    def test_a_file_may_be_so_large_and_no_larger(self) -> None:
        """What is larger is no file of tokens."""
        data = f"{FIRST}\n#".encode().ljust(MAX_FILE_BYTES, b"x")
        assert parse(data) == (FIRST.encode(),)
        with pytest.raises(ValueError, match=f"it has more than {MAX_FILE_BYTES} bytes"):
            parse(data + b"x")

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"", "it has no token"),
            (b"# none\n\n", "it has no token"),
            (f"{FIRST}\n{SECOND} {UNKNOWN}".encode(), "line 2 has characters that no token has"),
            (f"token: {FIRST}".encode(), "line 1 has characters that no token has"),
            (f"Bearer {FIRST}".encode(), "line 1 has characters that no token has"),
            (f"{FIRST}\n=".encode(), "line 2 has characters that no token has"),
            (f"{FIRST}é".encode(), "line 1 has characters that no token has"),
            (f"{FIRST}é".encode("latin-1"), "it is not UTF-8 text"),
            (FIRST.encode("utf-16"), "it is not UTF-8 text"),
            (FIRST.encode() + b"\0", "line 1 has characters that no token has"),
        ],
    )
    def test_what_is_wrong_is_said_without_the_file_s_text(self, data: bytes, why: str) -> None:
        """By the line's number: the text may be most of a token."""
        with pytest.raises(ValueError, match=why) as refusal:
            parse(data)
        assert str(refusal.value) == why
        assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


class TestLoading:
    """What a start needs."""

    def test_only_tokens_of_the_file_are_accepted(self, tmp_path: Path, clock: Clock) -> None:
        """Whole, and as they are written."""
        tokens = Tokens(token_file(tmp_path, FIRST, SECOND), clock=clock)
        tokens.load()
        assert tokens.count == 2
        assert accepted(tokens) == [FIRST, SECOND]
        for wrong in ("", FIRST[:-1], f"{FIRST}1", FIRST.upper(), f"{FIRST}\n{SECOND}", "#"):
            assert not tokens.accept(wrong.encode())
        assert not tokens.accept(b"\xff\0")

    def test_none_is_accepted_before_they_are_loaded(self, tmp_path: Path) -> None:
        """Nobody is let in by an order of calls."""
        tokens = Tokens(token_file(tmp_path, FIRST), clock=lambda: -1.0)
        assert accepted(tokens) == []

    def test_a_file_that_cannot_be_used_is_one_sentence(self, tmp_path: Path) -> None:
        """It names the file, says why, and what to do; nothing of its text."""
        os.mkfifo(tmp_path / "pipe")
        reasons = {
            tmp_path / "missing": "No such file or directory",
            tmp_path: "it is no regular file",
            tmp_path / "pipe": "it is no regular file",
            token_file(tmp_path): "it has no token",
        }
        for file, why in reasons.items():
            with pytest.raises(TokenError) as refusal:
                Tokens(file).load()
            assert str(refusal.value) == (
                f"The token file {file} cannot be used: {why}. "
                "Write one token a line into it, such as `openssl rand -hex 32` makes."
            )

    def test_a_malformed_file_leaves_no_trace_of_its_text(self, tmp_path: Path) -> None:
        """Not in the error, nor in one behind it that a traceback would show."""
        file = token_file(tmp_path, f"{FIRST} secret")
        with pytest.raises(TokenError) as refusal:
            Tokens(file).load()
        trace = "".join(traceback.format_exception(refusal.value))
        assert not [text for text in (FIRST, "secret") if text in trace]

    def test_every_token_is_compared_with_in_constant_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All of them, also after one that is the same, and digests of one length."""
        lengths: list[tuple[int, int]] = []
        compare = hmac.compare_digest

        def counted(one: bytes, other: bytes) -> bool:
            lengths.append((len(one), len(other)))
            return compare(one, other)

        monkeypatch.setattr(hmac, "compare_digest", counted)
        tokens = Tokens(token_file(tmp_path, FIRST, SECOND))
        tokens.load()
        for sent in (FIRST, SECOND, UNKNOWN, ""):
            lengths.clear()
            tokens.accept(sent.encode())
            assert lengths == [(32, 32), (32, 32)]


class TestReloading:
    """A file that changes is read again as requests come, and not at each."""

    @pytest.fixture
    def secret(self, tmp_path: Path) -> Secret:
        """A mounted Secret with the first token."""
        return Secret(tmp_path, FIRST)

    @pytest.fixture
    def tokens(self, secret: Secret, clock: Clock) -> Tokens:
        """Its tokens, loaded."""
        tokens = Tokens(secret.file, clock=clock)
        tokens.load()
        return tokens

    def test_a_swapped_link_is_seen_after_a_while_and_not_before(
        self, secret: Secret, tokens: Tokens, clock: Clock
    ) -> None:
        """The interval bounds how often the file is looked at, and how long a change takes."""
        secret.change(SECOND)
        clock.now += CHECK_S - 0.01
        assert accepted(tokens) == [FIRST]
        clock.now += 0.01
        assert accepted(tokens) == [SECOND]

    def test_tokens_can_be_rotated_without_a_gap(
        self, secret: Secret, tokens: Tokens, clock: Clock
    ) -> None:
        """Both hold while both are in the file."""
        for file, held in ((FIRST, SECOND), [FIRST, SECOND]), ((SECOND,), [SECOND]):
            secret.change(*file)
            clock.now += CHECK_S
            assert accepted(tokens) == held

    def test_a_file_written_in_place_is_seen(self, tmp_path: Path, clock: Clock) -> None:
        """Also one of the same size."""
        file = token_file(tmp_path, FIRST)
        tokens = Tokens(file, clock=clock)
        tokens.load()
        token_file(tmp_path, SECOND)
        # Clocks of file systems are coarse; what changes a second later has another time.
        os.utime(file, ns=(0, 0))
        clock.now += CHECK_S
        assert accepted(tokens) == [SECOND]

    def test_a_file_that_stays_is_not_read_again(
        self, tokens: Tokens, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A look is a stat, and the next one is due only after the interval."""
        looks: list[Path] = []
        look = Path.stat

        def counted(path: Path) -> os.stat_result:
            looks.append(path)
            return look(path)

        monkeypatch.setattr(Path, "stat", counted)
        monkeypatch.delattr(Path, "open")
        clock.now += CHECK_S
        for _ in range(100):
            assert tokens.accept(FIRST.encode())
        assert len(looks) == 1

    @pytest.mark.parametrize("content", [(), ("short",), (f"{SECOND} {SECOND}",), None])
    def test_what_cannot_be_used_leaves_the_tokens_and_is_said_once(
        self,
        secret: Secret,
        tokens: Tokens,
        clock: Clock,
        caplog: pytest.LogCaptureFixture,
        content: tuple[str, ...] | None,
    ) -> None:
        """Empty, malformed or missing; said again when it is another one, and over when it is good.

        The log has neither token.
        """
        caplog.set_level(logging.INFO, "timbre")
        secret.change(*content or ())
        if content is None:
            secret.file.resolve().unlink()
        for _ in range(3):
            clock.now += CHECK_S
            assert accepted(tokens) == [FIRST]
            assert tokens.stale
        (said,) = caplog.records
        assert said.levelname == "ERROR"
        assert said.getMessage().startswith(f"The token file {secret.file} cannot be used: ")
        secret.change("too short as well")
        clock.now += CHECK_S
        assert accepted(tokens) == [FIRST]
        assert len(caplog.records) == 2
        secret.change(SECOND)
        clock.now += CHECK_S
        assert accepted(tokens) == [SECOND]
        assert not tokens.stale
        assert caplog.records[-1].getMessage() == f"tokens configured: 1, from {secret.file}"
        assert not [token for token in (FIRST, SECOND, "short as") if token in caplog.text]

    def test_a_file_that_becomes_readable_is_read(
        self, secret: Secret, tokens: Tokens, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rights are no part of a file's text, but a change of them is a change of the file."""
        read = Path.open

        def forbidden(path: Path, mode: str) -> None:
            raise PermissionError(13, "Permission denied", f"{path} {mode}")

        secret.change(SECOND)
        monkeypatch.setattr(Path, "open", forbidden)
        clock.now += CHECK_S
        assert accepted(tokens) == [FIRST]
        assert tokens.stale
        monkeypatch.setattr(Path, "open", read)
        secret.file.chmod(0o400)
        clock.now += CHECK_S
        assert accepted(tokens) == [SECOND]
