"""HTTP requests, as bytes, with something wrong in them: the file, its wrapping, or the request."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from random import Random

from tests.fuzz.mutations import mutated

CLASSIFY, HUB = "/v1/classify", "/v1/audio-classification"
PATHS = (*(CLASSIFY, HUB) * 8, "/v1/model", "/", "/v1/%00", "/web/../../etc")
QUERIES = ("", "", "", "?timeline=true", "?timeline=%ff", "?timeline=2", "?" + "a=b&" * 500)
NO_METHOD, NO_CHARACTER = "BREW", "\x7f"
"""Both are the parser's to refuse."""
METHODS = (*("POST",) * 40, "GET", "PUT", "DELETE", "HEAD", "OPTIONS", NO_METHOD)
TYPES = (
    *(None, "audio/wav", "audio/flac", "audio/ogg", "audio/mpeg", "application/octet-stream"),
    *("application/vnd.bentoml+pickle", "application/json", "multipart/form-data", "text/html"),
    *("audio/", "", "é", "a" * 5000, "multipart/form-data; boundary=" + "b" * 300),
)
CHARSETS = (*("",) * 6, "; charset=punycode", "; charset=undefined", "; charset=" + "x" * 1000)
PART_HEADERS = (
    *("Content-Type: audio/wav",) * 6,
    *("Content-Type: text/plain; charset=punycode", "Content-Transfer-Encoding: base64"),
    *("Content-Disposition: form-data; name*=punycode''file", "X: " + "y" * 5000, "A:\r\nB:", ":"),
)
HEADERS = (
    *("X-Request-Id: one", f"X-Request-Id: {NO_CHARACTER};drop", "X-Request-Id: " + "i" * 1000),
    *("Traceparent: 00-0-0-00", "Range: bytes=5-1", "Expect: 100-continue", "Accept: nothing/*"),
    *("Content-Encoding: gzip", "Accept-Encoding: *;q=0", "Authorization: Basic !", "Cookie: ="),
    *("Host: other", "Upgrade: h2c", "Connection: close", "X-Forwarded-For: 1e9", "Origin: null"),
)


@dataclass(frozen=True, slots=True)
class Sent:
    """A request; `lies` when it is no proper HTTP: no answer, or only the parser's, may come."""

    data: bytes
    method: str
    lies: bool


def request(random: Random) -> Sent:
    """Make one request, often with a file that is damaged, sometimes with one that is not sent."""
    body, content_type = random.choice((_raw, _raw, _form, _json))(random)
    if random.random() < 0.1:
        content_type = random.choice(TYPES)
    method, path = random.choice(METHODS), random.choice(PATHS)
    headers = [f"{method} {path}{random.choice(QUERIES)} HTTP/1.1", "Host: fuzz"]
    if content_type is not None:
        headers.append(f"Content-Type: {content_type}")
    headers += random.sample(HEADERS, random.choice((0, 0, 1, 3)))
    framing, body, lies = _framed(random, body)
    head = "\r\n".join([*headers, *framing]).encode("latin-1") + b"\r\n\r\n"
    lies = lies or method == NO_METHOD or NO_CHARACTER.encode() in head
    if random.random() < 0.03:
        at = random.randrange(len(head))
        head, lies = head[:at] + random.randbytes(random.randint(1, 8)) + head[at:], True
    return Sent(head + body, method, lies)


def _framed(random: Random, body: bytes) -> tuple[list[str], bytes, bool]:
    """Say how long a body is: truly, in chunks, or wrongly."""
    how = random.random()
    if how < 0.8:
        return [f"Content-Length: {len(body)}"], body, False
    if how < 0.9:
        size = random.choice((1, 100, 4096, 65_536)) + len(body) // 1000
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        return ["Transfer-Encoding: chunked"], chunks + b"0\r\n\r\n", False
    wrong = random.choice(
        (
            [f"Content-Length: {len(body) + random.randint(1, 1000)}"],
            [f"Content-Length: {random.randint(0, len(body))}"],
            ["Content-Length: -1"],
            ["Content-Length: 99999999999999999999999"],
            ["Content-Length: 5", "Content-Length: 6"],
            ["Transfer-Encoding: chunked"],
            ["Transfer-Encoding: chunked", f"Content-Length: {len(body)}"],
            [],
        )
    )
    return wrong, body, True


def _raw(random: Random) -> tuple[bytes, str | None]:
    return mutated(random), random.choice(TYPES[:6])


def _form(random: Random) -> tuple[bytes, str | None]:
    """Write a multipart form, damaged in one case of three."""
    boundary = "fuzz"
    name = random.choice(("file", "file", "file", "files", "", 'a"b', "é"))
    filename = random.choice(('; filename="a.wav"', '; filename="a.wav"', "", '; filename="../é"'))
    form = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n'
        f"{random.choice(PART_HEADERS)}\r\n\r\n"
    ).encode() + mutated(random)
    form += f"\r\n--{boundary}--\r\n".encode()
    if random.random() < 0.3:
        form = mutated(random, [form * random.choice((1, 1, 3))])
    return form, f"multipart/form-data; boundary={boundary}{random.choice(CHARSETS)}"


def _json(random: Random) -> tuple[bytes, str | None]:
    """Write the Hugging Face contract's JSON, damaged in one case of three."""
    document: dict[str, object] = {"inputs": base64.b64encode(mutated(random)).decode()}
    if random.random() < 0.3:
        document["parameters"] = random.choice(
            ({}, {"top_k": 2}, {"top_k": 0}, {"top_k": 10**40}, {"x": 1}, [], None, "softmax")
        )
    if random.random() < 0.1:
        document["inputs"] = random.choice((1, None, [], {}, "=", "é", "AAA", "\ud800"))
    body = json.dumps(document).encode()
    if random.random() < 0.3:
        body = mutated(
            random, [body, b"[" * 50_000, b'{"inputs":' * 2000, body.decode().encode("utf-16")]
        )
    return body, "application/json"
