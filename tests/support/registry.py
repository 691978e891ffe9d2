"""An OCI registry over loopback: the distribution spec's push and pull, and its failures.

It keeps everything in memory, checks every digest it is given, and refuses a manifest whose blobs
it does not have, as the real ones do. The rest of the spec (tags, deletes, mounts) is not here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

Auth = Literal["", "basic", "bearer"]

USER, PASSWORD = "someone", "secret"
"""Who may use a registry that asks."""

_BLOB = re.compile(r"/v2/(?P<name>.+)/blobs/(?P<digest>sha256:[0-9a-f]{64})")
_UPLOAD = re.compile(r"/v2/(?P<name>.+)/blobs/uploads/(?P<session>[0-9a-f]*)")
_MANIFEST = re.compile(r"/v2/(?P<name>.+)/manifests/(?P<reference>[^/]+)")


def digest_of(content: bytes) -> str:
    """Return the digest as OCI writes it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class FakeRegistry:
    """What the registry holds, and how it misbehaves."""

    def __init__(self, auth: Auth) -> None:
        self.auth = auth
        self.host = ""
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[bytes, str]] = {}
        self.uploads: dict[str, bytes] = {}
        self.tokens: dict[str, str] = {}
        self.requests: list[tuple[str, str]] = []
        """(method, path) of each request, in order."""
        self.broken: int | None = None
        """A status to answer everything with."""

    def replace_blob(self, digest: str, content: bytes) -> None:
        """Serve `content` under the digest, as a damaged or hostile registry would."""
        for key in list(self.blobs):
            if key[1] == digest:
                self.blobs[key] = content

    def put_artifact(self, name: str, tag: str, manifest: object) -> str:
        """Store a manifest unchecked; returns its digest."""
        raw = json.dumps(manifest).encode()
        media_type = "application/vnd.oci.image.manifest.v1+json"
        for reference in (tag, digest_of(raw)):
            self.manifests[name, reference] = (raw, media_type)
        return digest_of(raw)

    def manifest(self, name: str, reference: str) -> dict[str, object]:
        """Return a stored manifest."""
        content: dict[str, object] = json.loads(self.manifests[name, reference][0])
        return content


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body in one packet: otherwise each answer waits 40 ms for an acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    registry: FakeRegistry

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base's name)
        """Say nothing: a test's output is its own."""

    def do_HEAD(self) -> None:
        self._route()

    def do_GET(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def do_PATCH(self) -> None:
        self._route()

    def do_PUT(self) -> None:
        self._route()

    def _route(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        self.registry.requests.append((self.command, url.path))
        if self.registry.broken:
            self._fail(self.registry.broken, "UNKNOWN", "out of order")
        elif url.path == "/token":
            self._token(query)
        elif not self._allowed(url.path):
            self._challenge(url.path)
        elif match := _UPLOAD.fullmatch(url.path):
            self._upload(match["name"], match["session"], query.get("digest"), body)
        elif match := _BLOB.fullmatch(url.path):
            self._blob(match["name"], match["digest"])
        elif match := _MANIFEST.fullmatch(url.path):
            self._manifest(match["name"], match["reference"], body)
        else:
            self._fail(404, "NAME_UNKNOWN", "no such route")

    def _blob(self, name: str, digest: str) -> None:
        content = self.registry.blobs.get((name, digest))
        if content is None:
            self._fail(404, "BLOB_UNKNOWN", "blob unknown to registry")
        else:
            self._answer(200, content, {"Docker-Content-Digest": digest})

    def _upload(self, name: str, session: str, digest: str | None, body: bytes) -> None:
        uploads = self.registry.uploads
        if self.command == "POST":
            session = uuid.uuid4().hex
            uploads[session] = b""
        elif session not in uploads:
            self._fail(404, "BLOB_UPLOAD_UNKNOWN", "no such upload")
            return
        uploads[session] += body
        if digest is None:
            location = f"/v2/{name}/blobs/uploads/{session}"
            self._answer(202, b"", {"Location": location})
        elif digest_of(content := uploads.pop(session)) != digest:
            self._fail(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        else:
            self.registry.blobs[name, digest] = content
            self._answer(201, b"", {"Location": f"/v2/{name}/blobs/{digest}"})

    def _manifest(self, name: str, reference: str, body: bytes) -> None:
        if self.command == "PUT":
            self._put_manifest(name, reference, body)
            return
        found = self.registry.manifests.get((name, reference))
        if found is None:
            self._fail(404, "MANIFEST_UNKNOWN", "manifest unknown")
        else:
            raw, media_type = found
            headers = {"Content-Type": media_type, "Docker-Content-Digest": digest_of(raw)}
            self._answer(200, raw, headers)

    def _put_manifest(self, name: str, reference: str, body: bytes) -> None:
        content = json.loads(body)
        needed = [content["config"]["digest"], *(layer["digest"] for layer in content["layers"])]
        if any((name, digest) not in self.registry.blobs for digest in needed):
            self._fail(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry")
            return
        stored = (body, self.headers["Content-Type"])
        for key in (reference, digest_of(body)):
            self.registry.manifests[name, key] = stored
        self._answer(201, b"", {"Docker-Content-Digest": digest_of(body), "Location": self.path})

    def _scope(self, path: str) -> str:
        name = re.match(r"/v2/(.+?)/(?:blobs|manifests)/", path)
        actions = "pull" if self.command in {"GET", "HEAD"} else "pull,push"
        return f"repository:{name[1] if name else ''}:{actions}"

    def _allowed(self, path: str) -> bool:
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        if self.registry.auth == "basic":
            return scheme == "Basic" and value == self._credentials()
        if self.registry.auth == "bearer":
            granted = self.registry.tokens.get(value, "") if scheme == "Bearer" else ""
            return granted.startswith(self._scope(path))
        return True

    def _challenge(self, path: str) -> None:
        challenge = 'Basic realm="registry"'
        if self.registry.auth == "bearer":
            realm = f"http://{self.registry.host}/token"
            challenge = f'Bearer realm="{realm}",service="registry",scope="{self._scope(path)}"'
        self._fail(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": challenge})

    def _token(self, query: dict[str, str]) -> None:
        if self.headers.get("Authorization") != f"Basic {self._credentials()}":
            self._fail(401, "UNAUTHORIZED", "wrong credentials")
            return
        token = uuid.uuid4().hex
        self.registry.tokens[token] = query.get("scope", "")
        self._answer(200, json.dumps({"token": token}).encode(), {})

    @staticmethod
    def _credentials() -> str:
        return base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    def _fail(
        self, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self._answer(status, body, {"Content-Type": "application/json", **(headers or {})})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def fake_registry(auth: Auth = "") -> Iterator[FakeRegistry]:
    """Run a registry on a free loopback port; `auth` is how it wants to know who asks."""
    registry = FakeRegistry(auth)
    handler = type("Handler", (_Handler,), {"registry": registry})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        registry.host = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()
