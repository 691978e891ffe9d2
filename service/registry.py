"""Push and pull bundles to an OCI registry, as `oci://registry.example/team/model:1.2.0`.

A registry is where clusters already keep images: with access rules, mirrors and garbage collection.
A bundle is an artifact with one layer per file (its path is the layer's title, so `oras pull` works
too) and bundle.json as config, so that a client can read the facts without the weights. What comes
back is believed only after its digests were computed here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

from pydantic import BaseModel, Field, ValidationError

from service.bundle import MANIFEST, MAX_MANIFEST_BYTES, Bundle, open_bundle, parse_manifest
from service.domain import BundleError
from service.oci_client import OciClient

BUNDLE_TYPE = "application/vnd.timbre.bundle.v1+json"
FILE_TYPE = "application/vnd.timbre.bundle.file.v1"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
TITLE = "org.opencontainers.image.title"

MAX_BUNDLE_BYTES = 8 << 30
"""A bundle that says it is larger is not fetched."""

_REFERENCE = re.compile(
    r"oci://(?P<host>[A-Za-z0-9.-]+(?::[0-9]+)?|\[[0-9a-fA-F:]+\](?::[0-9]+)?)"
    r"/(?P<repository>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a bundle is in a registry, by tag or by the digest of its OCI manifest."""

    host: str
    repository: str
    tag: str | None
    digest: str | None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read `oci://host[:port]/path:tag` or `…@sha256:…`; raises BundleError for the rest.

        There is no default tag: which version runs must be said.
        """
        match = _REFERENCE.fullmatch(text)
        if match is None or not (match["tag"] or match["digest"]):
            raise BundleError(
                f"{text!r} names no bundle in a registry; write it like "
                "oci://registry.example/team/model:1.2.0 or …/model@sha256:…."
            )
        return cls(**match.groupdict())

    @property
    def name(self) -> str:
        """What the registry knows the bundle by; the digest, if there is one, decides."""
        return self.digest or self.tag or ""

    def __str__(self) -> str:
        """Write it as `parse` reads it."""
        separator = "@" if self.digest else ":"
        return f"oci://{self.host}/{self.repository}{separator}{self.name}"


class _Descriptor(BaseModel):
    media_type: str = Field(alias="mediaType")
    digest: Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]
    annotations: Mapping[str, str] | None = None


class _Artifact(BaseModel):
    config: _Descriptor
    layers: tuple[_Descriptor, ...]


def push(folder: Path, reference: str, *, insecure: bool = False) -> Reference:
    """Verify the bundle in `folder`, upload what the registry lacks, and tag it.

    Returns the reference by digest; the same bundle always gives the same one. `insecure` speaks
    plain HTTP. Raises BundleError when the bundle is not in order or the registry does not take it.
    """
    where = Reference.parse(reference)
    if where.digest:
        raise BundleError(f"{where} is fixed by its digest; push to a tag.")
    bundle = open_bundle(folder)
    raw = _oci_manifest(bundle)
    with OciClient(where.host, where.repository, insecure=insecure) as client:
        for path, (digest, size) in _contents(bundle).items():
            layer = {"mediaType": FILE_TYPE, "digest": digest, "size": size}
            client.upload(bundle.folder / path, layer)
        client.put_manifest(where.name, raw, MANIFEST_TYPE)
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    return dataclasses.replace(where, tag=None, digest=digest)


def pull(
    reference: str,
    target: Path,
    *,
    insecure: bool = False,
    force: bool = False,
    digest: str | None = None,
) -> Bundle:
    """Fetch a bundle into the folder `target`, which appears whole and verified or not at all.

    `force` replaces a bundle that is there, never another folder. `insecure` speaks plain HTTP.
    With `digest`, that of the bundle, another bundle is refused before its weights are fetched.
    Raises BundleError when the registry does not give a bundle, when a byte of it is not what its
    digests say, and when `target` is taken or cannot be written.
    """
    where = Reference.parse(reference)
    target = target.absolute()
    _check_free(target, force=force)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, so that the last step is a rename within one file system.
        with (
            OciClient(where.host, where.repository, insecure=insecure) as client,
            tempfile.TemporaryDirectory(
                prefix=f".{target.name}-", dir=target.parent, ignore_cleanup_errors=True
            ) as temporary,
        ):
            fresh = Path(temporary, "fresh")
            artifact = _artifact(where, client)
            if digest not in {None, artifact.config.digest}:
                raise BundleError(
                    f"{where} is bundle {artifact.config.digest}, not the expected {digest}; "
                    "correct the reference or the digest."
                )
            bundle = _fetch(where, client, artifact, fresh)
            _swap(fresh, target, Path(temporary, "old"))
    except OSError as error:
        raise BundleError(
            f"{target} cannot be written ({error.strerror}); choose another folder."
        ) from error
    return dataclasses.replace(bundle, folder=target)


def _contents(bundle: Bundle) -> dict[str, tuple[str, int]]:
    """Digest and size of every file, bundle.json first."""
    size = (bundle.folder / MANIFEST).stat().st_size
    files = {path: (f"sha256:{f.sha256}", f.bytes) for path, f in bundle.manifest.files.items()}
    return {MANIFEST: (bundle.digest, size), **dict(sorted(files.items()))}


def _oci_manifest(bundle: Bundle) -> bytes:
    facts = bundle.manifest
    layers: list[dict[str, object]] = [
        {"mediaType": FILE_TYPE, "digest": digest, "size": size, "annotations": {TITLE: path}}
        for path, (digest, size) in _contents(bundle).items()
    ]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": BUNDLE_TYPE,
        "config": {
            "mediaType": BUNDLE_TYPE,
            "digest": layers[0]["digest"],
            "size": layers[0]["size"],
        },
        "layers": layers,
        # From the bundle, not the clock: pushing it again changes nothing.
        "annotations": {
            "org.opencontainers.image.created": facts.created.isoformat(),
            "org.opencontainers.image.licenses": facts.licence,
            "org.opencontainers.image.version": facts.version,
            TITLE: facts.name,
        },
    }
    return json.dumps(manifest, separators=(",", ":"), sort_keys=True).encode()


def _artifact(where: Reference, client: OciClient) -> _Artifact:
    raw = client.get_manifest(where.name, MANIFEST_TYPE, MAX_MANIFEST_BYTES)
    found = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    if where.digest not in {None, found}:
        _distrust(where, f"the manifest that the registry sent has digest {found}")
    try:
        artifact = _Artifact.model_validate_json(raw)
    except ValidationError:
        artifact = None
    if artifact is None or artifact.config.media_type != BUNDLE_TYPE:
        raise BundleError(
            f"{where} is not a Timbre bundle; check the name, or push one there with "
            "`timbre bundle push`."
        )
    return artifact


def _fetch(where: Reference, client: OciClient, artifact: _Artifact, folder: Path) -> Bundle:
    """Download every file; nothing is written that bundle.json does not list, nor elsewhere."""
    config = artifact.config
    if config.size > MAX_MANIFEST_BYTES:
        _distrust(where, f"its {MANIFEST} has {config.size} bytes")
    folder.mkdir()
    client.download(config.digest, config.size, folder / MANIFEST)
    facts = parse_manifest((folder / MANIFEST).read_bytes(), str(where))
    expected = {path: (f"sha256:{file.sha256}", file.bytes) for path, file in facts.files.items()}
    expected[MANIFEST] = (config.digest, config.size)
    layers = [((layer.annotations or {}).get(TITLE), layer) for layer in artifact.layers]
    if len(layers) != len(expected) or expected != {
        title: (layer.digest, layer.size) for title, layer in layers
    }:
        _distrust(where, f"its layers are not the files that its {MANIFEST} lists")
    if (total := sum(size for _, size in expected.values())) > MAX_BUNDLE_BYTES:
        _distrust(where, f"it has {total} bytes, more than {MAX_BUNDLE_BYTES}")
    for path, (digest, size) in expected.items():
        if path != MANIFEST:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            client.download(digest, size, folder / path)
    return open_bundle(folder, digest=config.digest)


def _check_free(target: Path, *, force: bool) -> None:
    try:
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            raise BundleError(f"{target} is not a folder; choose another.")
        if not target.exists() or not any(target.iterdir()):
            return
    except OSError as error:
        raise BundleError(f"{target} cannot be read ({error.strerror}); choose another.") from error
    if not force:
        raise BundleError(f"{target} is not empty; choose another, or add --force to replace it.")
    if not (target / MANIFEST).is_file():
        raise BundleError(f"{target} is not a bundle, so it is not replaced; choose another.")


def _swap(fresh: Path, target: Path, old: Path) -> None:
    """Put `fresh` in the target's place by renames, and the target back if that fails."""
    if not target.exists():
        fresh.rename(target)
        return
    target.rename(old)
    try:
        fresh.rename(target)
    except OSError:
        with contextlib.suppress(OSError):
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _distrust(where: Reference, what: str) -> NoReturn:
    raise BundleError(f"{where} cannot be trusted: {what}; push it again from a verified bundle.")
