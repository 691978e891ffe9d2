"""An OCI registry's wire, by oras, with time limits, one retry policy and one sentence per failure.

oras itself waits two minutes before it says that a registry is unreachable or wants credentials,
has no time-outs, fetches tokens only, and forgets the host when it has no dot: hence this module.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Self
from urllib.parse import urlsplit

import requests
from oras.auth.token import TokenAuth  # type: ignore[import-untyped]
from oras.container import Container  # type: ignore[import-untyped]
from oras.provider import Registry  # type: ignore[import-untyped]
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from service.domain import BundleError

CONNECT_S = 10.0
READ_S = 60.0
"""Seconds without a byte before the registry counts as unreachable."""

_PIECE = 1 << 20

# What oras logs, a BundleError says; without a handler Python would print it on stderr as well.
logging.getLogger("oras.logger").addHandler(logging.NullHandler())


class _Auth(TokenAuth):  # type: ignore[misc]
    """oras's token exchange, and the plain Basic credentials that small registries ask for."""

    def __init__(self, session: requests.Session, prefix: str) -> None:
        super().__init__()
        self.session, self.prefix, self._tls_verify = session, prefix, True
        self._auth_config = _docker_config()
        self.basic = False

    def get_auth_header(self) -> dict[str, str]:
        """Return what is known to be wanted: nothing before the first challenge."""
        if self.basic:
            return {"Authorization": f"Basic {self._basic_auth}"}
        return dict(super().get_auth_header())

    def answer(self, challenged: requests.Response) -> bool:
        """Prepare for what `challenged` asks; False if there is nothing new to try."""
        challenge = challenged.headers.get("Www-Authenticate", "")
        scheme = challenge.partition(" ")[0].lower()
        if scheme == "basic" and not self.basic:
            self.basic = hasattr(self, "_basic_auth")
            return self.basic
        if scheme == "bearer" and "realm=" in challenge:
            # A fresh one each time: a token for pulling does not do for pushing.
            return bool(self.authenticate_request(challenged, {}, refresh=True)[1])
        return False


class OciClient(Registry):  # type: ignore[misc]
    """One repository of a registry; every failure is a BundleError."""

    def __init__(self, host: str, repository: str, *, insecure: bool) -> None:
        super().__init__(hostname=host, insecure=insecure)
        self.where = f"oci://{host}/{repository}"
        # Filled in, not parsed: oras takes a first part without a dot or port for a path on
        # docker.io, and one with a dot for a host.
        self.container = Container(repository.rpartition("/")[2], registry=host)
        self.container.registry = host
        self.container.namespace, self.container.repository = None, repository
        self.auth = _Auth(self.session, self.prefix)
        self.auth.load_configs(self.container)
        retry = Retry(
            total=3,
            backoff_factor=0.2,
            status_forcelist=(429, 502, 503, 504),
            allowed_methods=("GET", "HEAD"),
            raise_on_status=False,
            respect_retry_after_header=False,
        )
        for scheme in ("https://", "http://"):
            self.session.mount(scheme, HTTPAdapter(max_retries=retry))
        # Digests are of the bytes as stored.
        self.session.headers["Accept-Encoding"] = "identity"

    def __enter__(self) -> Self:
        """Do nothing yet: connections are made by requests."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.session.close()

    def do_request(  # noqa: PLR0917 (oras's signature)
        self,
        url: str,
        method: str = "GET",
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        stream: bool = False,  # noqa: FBT001, FBT002
    ) -> requests.Response:
        """Send a request, answering one challenge; HEAD and GET may come back with 404.

        Credentials go to the registry's own host only, wherever an upload's location points.
        """
        mine = urlsplit(url).netloc == self.container.registry
        for attempt in range(2):
            try:
                response: requests.Response = self.session.request(
                    method,
                    url,
                    data=data,
                    headers={**(headers or {}), **(self.auth.get_auth_header() if mine else {})},
                    json=json,
                    stream=stream,
                    timeout=(CONNECT_S, READ_S),
                    auth=_keep,
                )
                refused = response.status_code in {401, 403}
                if refused and not attempt and mine and self.auth.answer(response):
                    response.close()
                    continue
            except requests.RequestException as error:
                self._unreachable(error)
            break
        if response.status_code >= 400 and not (  # noqa: PLR2004
            response.status_code == 404 and method in {"GET", "HEAD"}  # noqa: PLR2004
        ):
            self._refused(response)
        return response

    def upload(self, file: Path, layer: Mapping[str, Any]) -> None:
        """Upload a file unless the registry has a blob with its digest."""
        try:
            self.upload_blob(str(file), self.container, dict(layer))
        except ValueError as error:  # oras found no place to upload to
            raise BundleError(
                f"{self.where} takes no uploads; check that it is an OCI registry."
            ) from error

    def put_manifest(self, name: str, raw: bytes, media_type: str) -> None:
        """Store the manifest under a tag."""
        url = f"{self.prefix}://{self.container.manifest_url(name)}"
        self.do_request(url, "PUT", data=raw, headers={"Content-Type": media_type})

    def get_manifest(self, name: str, media_type: str, limit: int) -> bytes:
        """Return the manifest's bytes as stored, at most `limit` of them."""
        url = f"{self.prefix}://{self.container.manifest_url(name)}"
        response = self.do_request(url, headers={"Accept": media_type}, stream=True)
        if response.status_code == 404:  # noqa: PLR2004
            response.close()
            raise BundleError(f"{self.where} has no {name}; check the name and the version.")
        raw = b""
        for piece in self._pieces(response):
            raw += piece
            if len(raw) > limit:
                raise BundleError(f"{self.where} sent a manifest of over {limit} bytes for {name}.")
        return raw

    def download(self, digest: str, size: int, file: Path) -> None:
        """Write the blob to `file`; it has this size and digest, or BundleError is raised."""
        response = self.get_blob(self.container, digest, stream=True)
        if response.status_code == 404:  # noqa: PLR2004
            response.close()
            raise BundleError(f"{self.where} has lost {file.name} ({digest}); push it again.")
        computed, received = hashlib.sha256(), 0
        with file.open("wb") as out:
            for piece in self._pieces(response):
                received += len(piece)
                if received > size:
                    break
                computed.update(piece)
                out.write(piece)
        if received != size or f"sha256:{computed.hexdigest()}" != digest:
            raise BundleError(
                f"{self.where} sent a {file.name} that does not have its digest {digest}; "
                "pull again, and push it again if that does not help."
            )

    def _pieces(self, response: requests.Response) -> Any:  # noqa: ANN401
        try:
            with response:
                yield from response.iter_content(_PIECE)
        except requests.RequestException as error:
            self._unreachable(error)

    def _unreachable(self, error: Exception) -> NoReturn:
        secure = self.prefix == "https"
        hint = ", or add --insecure if it speaks plain http" if secure else ""
        reason = "timed out" if isinstance(error, requests.Timeout) else _root(error)
        raise BundleError(
            f"{self.where} cannot be reached ({reason}); check the address and the network{hint}."
        ) from error

    def _refused(self, response: requests.Response) -> NoReturn:
        if response.status_code in {401, 403}:
            response.close()
            raise BundleError(
                f"{self.where} wants other credentials; run "
                f"`docker login {self.container.registry}` as someone who may use it."
            )
        try:
            detail = response.json()["errors"][0]["message"]
        except (ValueError, LookupError, TypeError, requests.RequestException):
            detail = response.reason
        raise BundleError(
            f"{self.where} refused with status {response.status_code} ({detail}); "
            "check that it is an OCI registry that takes artifacts."
        )


def _keep(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Leave the headers as they are: without it, requests puts ~/.netrc over our credentials."""
    return request


def _docker_config() -> dict[str, Any]:
    """Read docker's credentials; oras does not know DOCKER_CONFIG."""
    folder = os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker"
    path = Path(folder, "config.json")
    try:
        content = json.loads(path.read_bytes())
        return {key: content.get(key) or {} for key in ("auths", "credHelpers", "credsStore")}
    except FileNotFoundError:
        return {"auths": {}}
    except (OSError, ValueError, AttributeError) as error:
        raise BundleError(
            f"{path} holds no credentials to read; run `docker login` again."
        ) from error


def _root(error: BaseException) -> str:
    """Return the operating system's words at the bottom of requests' and urllib3's wrappings."""
    reason = getattr(error, "reason", None)
    inner = reason if isinstance(reason, BaseException) else None
    inner = inner or next((arg for arg in error.args if isinstance(arg, BaseException)), None)
    inner = inner or error.__cause__
    if inner is not None:
        return _root(inner)
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
