"""Bearer tokens from a file: who may use the server.

The file is a mounted Secret: Kubernetes changes it by swapping a symbolic link, so it is looked at
again as requests come, and no watcher has to be trusted. Only digests are kept and compared.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import logging
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from service.domain import TimbreError

MIN_TOKEN_CHARS = 32
"""As `openssl rand -hex 16` makes: 128 bits, too many to be guessed however often one may try."""
MAX_TOKENS = 64
"""Every one is compared with, for each request."""
MAX_FILE_BYTES = 64 * 1024
CHECK_S = 1.0
"""Seconds at least between two looks at the file: so long may a token that was removed still hold.
A look at a mounted Secret, which is in memory, takes microseconds: less than a thread for it."""

logger = logging.getLogger("timbre")

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""b64token of RFC 6750, which has no place for a comment's #."""
_HELP = "Write one token a line into it, such as `openssl rand -hex 32` makes."

_Identity = tuple[int, ...]


class TokenError(TimbreError):
    """A token or a file of tokens cannot be used; no sentence of it has any of the file's text."""

    slug = "token"
    title = "A token cannot be used"


def well_formed(token: str) -> bool:
    """Whether a header can carry this token."""
    return _TOKEN.fullmatch(token) is not None


def parse(data: bytes) -> Sequence[bytes]:
    """Read a file's text: a token a line; blank lines, and what follows a #, say nothing.

    Raises:
        ValueError: too large, no text, no token, too many, or a line that is none, by its number.
    """
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"it has more than {MAX_FILE_BYTES} bytes")
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:  # which would say what it could not read
        raise ValueError("it is not UTF-8 text") from None
    tokens: dict[bytes, None] = {}
    for number, line in enumerate(lines, 1):
        token = line.partition("#")[0].strip()
        if not token:
            continue
        if not well_formed(token):
            raise ValueError(f"line {number} has characters that no token has")
        if len(token) < MIN_TOKEN_CHARS:
            raise ValueError(f"line {number} has fewer than {MIN_TOKEN_CHARS} characters")
        tokens[token.encode()] = None
    if not tokens:
        raise ValueError("it has no token")
    if len(tokens) > MAX_TOKENS:
        raise ValueError(f"it has more than {MAX_TOKENS} tokens")
    return tuple(tokens)


def first(file: Path) -> str:
    """Give the first token of a file, for who is a client and not a server.

    Raises:
        TokenError: it is missing, empty or malformed.
    """
    return _tokens(file)[0].decode()


class Tokens:
    """The tokens of a file, as it is now. Until it is loaded none is accepted."""

    def __init__(self, file: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the file's path; symbolic links on it are followed anew at each look."""
        self.file = file
        self.stale = False
        """Whether the file cannot be used, and the tokens it had before hold."""
        self._clock = clock
        self._digests: Sequence[bytes] = ()
        self._seen: _Identity | None = None
        self._next_look = 0.0

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._digests)

    def load(self) -> None:
        """Read the file.

        Raises:
            TokenError: it is missing, empty or malformed; what was loaded before stays.
        """
        with _explained(self.file):
            # Before it is read: if it changes in between, the next look sees that it did.
            seen = _identity(self.file)
        tokens = _tokens(self.file)
        self._digests = tuple(map(digest, tokens))
        self._seen = seen
        self._next_look = self._clock() + CHECK_S
        self.stale = False

    def accept(self, token: bytes) -> bool:
        """Whether this is one of the tokens; how long it takes doesn't depend on which."""
        self._look()
        sent = digest(token)
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(sent, known)
        return found

    def _look(self) -> None:
        """Load the file again if it is another one; if that cannot be used, keep what it had."""
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + CHECK_S
        try:
            identity = _identity(self.file)
        except OSError:
            identity = None
        if identity == self._seen:
            return
        try:
            self.load()
        except TokenError as error:
            self.stale = True
            self._seen = identity  # it is said once, and looked into again when there is another
            logger.error("%s Until then the tokens it had hold.", error)  # noqa: TRY400 - no fault
        else:
            logger.info("tokens configured: %d, from %s", self.count, self.file)


def _identity(file: Path) -> _Identity:
    """What changes when a file is written, becomes readable, or has another in its place.

    Raises:
        OSError: it is missing, or a pipe or folder, which cannot be read again and again.
    """
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _tokens(file: Path) -> Sequence[bytes]:
    """Read as much as a file may have, and a byte more, by which it is known to have too much."""
    with _explained(file), file.open("rb") as opened:
        return parse(opened.read(MAX_FILE_BYTES + 1))


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    """Say of what can't be read what to do."""
    try:
        yield
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise TokenError(f"The token file {file} cannot be used: {why}. {_HELP}") from error


def digest(token: bytes) -> bytes:
    """Stand for a token where it must not be kept."""
    return hashlib.sha256(token).digest()
