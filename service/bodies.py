"""Request bodies → the bytes of a clip: counted while they are read, in whatever they are wrapped.

A slow body costs memory and no permit: what is bounded is how many bytes all bodies hold together.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress

from pydantic import ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from service.audio import ACCEPTED, MAX_BODY_BYTES
from service.contract import HubParameters, HubRequest
from service.domain import BadRequest, SlowBody, TooLarge, UnsupportedFormat

ENVELOPE_BYTES = 64 * 1024
"""What a multipart or JSON body may have beside the audio."""
MAX_RAW_BYTES = MAX_BODY_BYTES
MAX_FORM_BYTES = MAX_BODY_BYTES + ENVELOPE_BYTES
MAX_JSON_BYTES = 4 * (MAX_BODY_BYTES // 3 + 1) + ENVELOPE_BYTES
"""A clip of `MAX_BODY_BYTES` grows by a third in base64."""
MAX_BUFFERED_BYTES = 256 * 1024 * 1024
"""Of all bodies being read or decoded at a time."""
MAX_FORM_FIELDS = 8
MAX_FIELD_BYTES = ENVELOPE_BYTES // MAX_FORM_FIELDS
"""Of a form's text field, which nobody reads."""

# A form's type is what curl --data-binary says of anything, so it is taken for raw bytes too.
_RAW_TYPES = {
    "",
    "application/octet-stream",
    "application/ogg",
    "application/x-www-form-urlencoded",
}


class Buffers:
    """Counts the bytes of all bodies that are held, and makes room where they are too many.

    Who then has to go is the body that has held most for longest, in bytes times seconds, while it
    was coming: clients that stall would otherwise keep out all that don't.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start empty; `clock` gives seconds."""
        self.held = 0
        self.clock = clock
        self._coming: dict[Body, float] = {}  # with the time of their beginning

    @contextmanager
    def hold(self) -> Iterator[Body]:
        """Give a body to read into, and let go of its bytes afterwards."""
        body = Body(self)
        try:
            yield body
        finally:
            self.held -= body.size

    @contextmanager
    def coming(self, body: Body) -> Iterator[None]:
        """Let a body be dropped meanwhile."""
        self._coming[body] = self.clock()
        try:
            yield
        finally:
            self._coming.pop(body, None)

    def grow(self, size: int) -> None:
        """Count more bytes, and drop bodies that are coming until all fit, or none is left."""
        self.held += size
        while self.held > MAX_BUFFERED_BYTES and self._coming:
            now = self.clock()
            body = max(self._coming, key=lambda body: body.size * (now - self._coming[body]))
            del self._coming[body]
            body.drop()


class Body:
    """One body that is being read."""

    def __init__(self, buffers: Buffers) -> None:
        self.size = 0
        self._buffers = buffers
        self._chunks: list[bytes] = []
        self._patience: asyncio.Timeout | None = None
        self._dropped = False

    async def read(self, request: Request, *, limit: int, timeout_s: float) -> bytes | None:
        """Read it all; None when all bodies together held too much and this had to go.

        Raises:
            TooLarge: more than `limit` bytes, by its header or in fact.
            SlowBody: not all of it came within `timeout_s` seconds.
        """
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > limit:  # int() refuses thousands of digits
            raise too_large(limit)
        try:
            with self._buffers.coming(self):
                async with asyncio.timeout(timeout_s) as self._patience:
                    async for chunk in request.stream():
                        self.size += len(chunk)
                        self._chunks.append(chunk)
                        self._buffers.grow(len(chunk))
                        if self._dropped:
                            return None
                        if self.size > limit:
                            raise too_large(limit)
        except TimeoutError:
            if not self._dropped:
                raise SlowBody(f"The body did not come within {timeout_s:.3g} s.") from None
        if self._dropped:
            return None
        whole = b"".join(self._chunks)
        self._chunks.clear()
        return whole

    def drop(self) -> None:
        """Let go of what has come, at once, and end the reading."""
        self._buffers.held -= self.size
        self.size = 0
        self._chunks.clear()
        self._dropped = True
        if self._patience is not None:
            # It refuses where its time is up and its task has yet to hear of it, which ends the
            # reading all the same; this is another client's task, which has no part in that.
            with suppress(RuntimeError):
                self._patience.reschedule(0.0)


def content_type(request: Request) -> str:
    """The media type, without parameters; empty when none was sent."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def require_raw(kind: str) -> None:
    """Refuse what can't be a recording; which recording it is, its first bytes tell.

    Raises:
        UnsupportedFormat: a media type of something else.
    """
    if kind not in _RAW_TYPES and not kind.startswith("audio/"):
        raise UnsupportedFormat(f"Content-Type {kind!r} is no audio; send {ACCEPTED}.")


class _InMemoryParser(MultiPartParser):
    """Starlette's parser, without its temporary files: a body is in memory and bounded anyway."""

    spool_max_size = MAX_FORM_BYTES


async def form_file(request: Request, body: bytes) -> bytes:
    """Take the form's `file` out of a multipart body.

    Raises:
        BadRequest: it is no such form, or has no such file.
    """

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = _InMemoryParser(
        _boundary_alone(request),
        stream(),
        max_files=1,
        max_fields=MAX_FORM_FIELDS,
        max_part_size=MAX_FIELD_BYTES,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise BadRequest(
            f"The multipart form cannot be read: {error.message} Send the clip as a file in a "
            "field called `file`."
        ) from error
    try:
        file = form.get("file")
        if file is None or isinstance(file, str):
            raise BadRequest("The form has no file in a field called `file`.")
        return file.file.read()  # in memory, so this doesn't block
    finally:
        await form.close()


def _boundary_alone(request: Request) -> Headers:
    """Give the headers of a multipart body with nothing in them but its boundary.

    The parser would decode names and text by a `charset` beside it, which forms don't have
    (RFC 7578): some of Python's codecs take seconds for what fits into a field, and names of codecs
    that there aren't are remembered for ever.

    Raises:
        BadRequest: there is no boundary.
    """
    _, parameters = parse_options_header(request.headers.get("content-type"))
    boundary = parameters.get(b"boundary", b"").decode("latin-1")
    if not boundary:
        raise BadRequest("The multipart form cannot be read: its Content-Type has no boundary.")
    quoted = boundary.replace("\\", r"\\").replace('"', r"\"")
    return Headers({"content-type": f'multipart/form-data; boundary="{quoted}"'})


def hub_request(body: bytes) -> tuple[bytes, HubParameters]:
    """Take the clip and the parameters out of the Hugging Face contract's JSON.

    Raises:
        BadRequest: it is not that JSON, or its inputs are not base64.
    """
    try:
        request = HubRequest.model_validate_json(body)
        data = base64.b64decode(request.inputs, validate=True)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        where = "".join(f"{part}: " for part in problem["loc"])
        raise BadRequest(f"The JSON body is wrong: {where}{problem['msg']}.") from error
    except (binascii.Error, ValueError) as error:
        raise BadRequest("`inputs` is not base64.") from error
    return data, request.parameters or HubParameters()


def too_large(limit: int) -> TooLarge:
    """Say how much is too much, and what to do."""
    return TooLarge(
        f"The body has more than {limit} bytes. Send FLAC, Ogg or MP3, split the clip, or use "
        "`timbre classify`, which splits and merges for you."
    )
