"""Bundles through a registry: what arrives is what was pushed, or one sentence says why not."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers.processes import free_port
from service import registry as registry_module
from service.bundle import CARD, MANIFEST, open_bundle
from service.domain import BundleError
from service.registry import BUNDLE_TYPE, TITLE, Reference, pull, push
from tests.support.bundles import FILES, tiny_bundle
from tests.support.registry import PASSWORD, USER, FakeRegistry, digest_of, fake_registry

REPOSITORY = "team.one/models/tiny"


@pytest.fixture(autouse=True)
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the credentials at a folder of the test's own, empty at first."""
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """Run a registry that asks nobody for credentials."""
    with fake_registry() as running:
        yield running


def reference(registry: FakeRegistry, tag: str = "1.2.0") -> str:
    """Name the bundle of these tests in a registry."""
    return f"oci://{registry.host}/{REPOSITORY}:{tag}"


def log_in(docker: Path, host: str, password: str = PASSWORD) -> None:
    """Leave credentials as `docker login` does."""
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    (docker / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


def pushed(registry: FakeRegistry, tmp_path: Path) -> Reference:
    """Push the tiny bundle."""
    tiny_bundle(tmp_path / "made")
    return push(tmp_path / "made", reference(registry), insecure=True)


def refused(registry: FakeRegistry, tmp_path: Path, tag: str = "1.2.0") -> str:
    """Return the sentence with which a pull fails; it leaves nothing behind."""
    with pytest.raises(BundleError) as caught:
        pull(reference(registry, tag), tmp_path / "in" / "got", insecure=True)
    assert not (tmp_path / "in").exists() or not list((tmp_path / "in").iterdir())
    return str(caught.value)


def test_what_is_pushed_comes_back(registry: FakeRegistry, tmp_path: Path) -> None:
    """A round trip keeps every file, nested ones too, and the digest."""
    made = tiny_bundle(tmp_path / "made")
    where = push(tmp_path / "made", reference(registry), insecure=True)
    got = pull(reference(registry), tmp_path / "deep" / "got", insecure=True)
    assert got.digest == made.digest
    assert got.folder == tmp_path / "deep" / "got"
    assert open_bundle(got.folder) == got
    assert {name: got.path(name).read_bytes() for name in FILES} == FILES
    assert [path.name for path in got.folder.parent.iterdir()] == ["got"]
    by_digest = pull(str(where), tmp_path / "again", insecure=True)
    assert by_digest.digest == made.digest


def test_the_artifact_can_be_read_by_others(registry: FakeRegistry, tmp_path: Path) -> None:
    """One layer per file, titled with its path; bundle.json is the config; types say Timbre."""
    where = pushed(registry, tmp_path)
    assert where.digest is not None
    manifest: dict[str, Any] = registry.manifest(REPOSITORY, where.digest)
    assert manifest["artifactType"] == manifest["config"]["mediaType"] == BUNDLE_TYPE
    assert [layer["annotations"][TITLE] for layer in manifest["layers"]] == [MANIFEST, *FILES]
    assert manifest["annotations"]["org.opencontainers.image.version"] == "1.2.0"


def test_pushing_again_uploads_nothing(registry: FakeRegistry, tmp_path: Path) -> None:
    """Blobs that are there are not sent, and the digest stays."""
    first = pushed(registry, tmp_path)
    registry.requests.clear()
    assert push(tmp_path / "made", reference(registry), insecure=True) == first
    assert {method for method, _ in registry.requests} == {"HEAD", "PUT"}
    assert len([method for method, _ in registry.requests if method == "PUT"]) == 1


def test_a_damaged_bundle_is_not_pushed(registry: FakeRegistry, tmp_path: Path) -> None:
    """It is verified before anything is sent."""
    tiny_bundle(tmp_path / "made")
    (tmp_path / "made" / CARD).write_text("another card")
    with pytest.raises(BundleError, match=CARD):
        push(tmp_path / "made", reference(registry), insecure=True)
    assert not registry.requests


def test_a_digest_is_no_place_to_push_to(tmp_path: Path) -> None:
    """Content decides a digest, so it cannot be chosen."""
    with pytest.raises(BundleError, match="push to a tag"):
        push(tmp_path, f"oci://registry.example/model@sha256:{'0' * 64}")


@pytest.mark.parametrize("name", [MANIFEST, "openvino/fp32.bin"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda good: bytes([good[0] ^ 1]) + good[1:],
        lambda good: good[:-1],
        lambda good: good + b"\0",
        lambda _: b"",
    ],
    ids=["changed", "truncated", "longer", "empty"],
)
def test_a_corrupted_blob_is_refused(
    registry: FakeRegistry, tmp_path: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    """Every blob's digest is computed here, whatever the registry says."""
    pushed(registry, tmp_path)
    good = (tmp_path / "made" / name).read_bytes()
    registry.replace_blob(digest_of(good), damage(good))
    assert f"sent a {Path(name).name} that does not have its digest" in refused(registry, tmp_path)


def test_a_lost_blob_is_named(registry: FakeRegistry, tmp_path: Path) -> None:
    """A registry may have forgotten a file of a manifest that it still has."""
    pushed(registry, tmp_path)
    del registry.blobs[REPOSITORY, digest_of(FILES["openvino/fp32.bin"])]
    assert "has lost fp32.bin" in refused(registry, tmp_path)


def test_another_manifest_than_the_pinned_one_is_refused(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    """A reference by digest is checked against the manifest's bytes."""
    where = pushed(registry, tmp_path)
    assert where.digest is not None
    raw, media_type = registry.manifests[REPOSITORY, where.digest]
    registry.manifests[REPOSITORY, where.digest] = (raw + b" ", media_type)
    with pytest.raises(BundleError, match="cannot be trusted: the manifest"):
        pull(str(where), tmp_path / "got", insecure=True)


def test_another_bundle_than_the_expected_one_is_refused(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    """A tag may move; with the bundle's digest only that bundle is taken, and nothing is left."""
    made = tiny_bundle(tmp_path / "made")
    push(made.folder, reference(registry), insecure=True)
    got = tmp_path / "in" / "got"
    with pytest.raises(BundleError, match=f"is bundle {made.digest}, not the expected sha256:0"):
        pull(reference(registry), got, insecure=True, digest=f"sha256:{'0' * 64}")
    assert not list(got.parent.iterdir())
    assert pull(reference(registry), got, insecure=True, digest=made.digest).digest == made.digest


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["layers"][1]["annotations"].update({TITLE: "../../out.md"}),
        lambda m: m["layers"][1]["annotations"].update({TITLE: "/out.md"}),
        lambda m: m["layers"][1]["annotations"].update({TITLE: "other.md"}),
        lambda m: m["layers"][1].pop("annotations"),
        lambda m: m["layers"].pop(),
        lambda m: m["layers"].append(m["layers"][1]),
        lambda m: m["layers"][2].update(size=10**12),
        lambda m: m["layers"][2].update(digest=m["layers"][3]["digest"]),
    ],
    ids=["up", "root", "renamed", "untitled", "fewer", "twice", "huge", "swapped"],
)
def test_layers_that_bundle_json_does_not_list_are_refused(
    registry: FakeRegistry, tmp_path: Path, change: Change
) -> None:
    """Titles, sizes and digests must be bundle.json's: nothing lands elsewhere or unbounded."""
    pushed(registry, tmp_path)
    manifest = registry.manifest(REPOSITORY, "1.2.0")
    change(manifest)
    registry.put_artifact(REPOSITORY, "bad", manifest)
    assert "its layers are not the files" in refused(registry, tmp_path, "bad")


def test_a_bundle_json_that_leads_out_is_refused(registry: FakeRegistry, tmp_path: Path) -> None:
    """A hostile config and layers that agree with each other are still paths to be checked."""
    pushed(registry, tmp_path)
    facts = json.loads((tmp_path / "made" / MANIFEST).read_text())
    facts["files"]["../../out.md"] = facts["files"][CARD]
    raw = json.dumps(facts).encode()
    registry.blobs[REPOSITORY, digest_of(raw)] = raw
    manifest: dict[str, Any] = registry.manifest(REPOSITORY, "1.2.0")
    manifest["config"].update(digest=digest_of(raw), size=len(raw))
    registry.put_artifact(REPOSITORY, "bad", manifest)
    assert "is not a relative path inside the bundle" in refused(registry, tmp_path, "bad")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["config"].update(mediaType="application/vnd.oci.image.config.v1+json"),
        lambda m: m.pop("config"),
        lambda m: m["config"].update(digest="md5:0"),
        lambda m: m["config"].update(size=-1),
        lambda m: m.update(layers="none"),
    ],
    ids=["image", "index", "digest", "size", "layers"],
)
def test_another_artifact_is_not_a_bundle(
    registry: FakeRegistry, tmp_path: Path, change: Change
) -> None:
    """An image, an index or nonsense is named as what it is not."""
    pushed(registry, tmp_path)
    manifest = registry.manifest(REPOSITORY, "1.2.0")
    change(manifest)
    registry.put_artifact(REPOSITORY, "other", manifest)
    assert "is not a Timbre bundle" in refused(registry, tmp_path, "other")


def test_sizes_have_limits(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole, bundle.json and the OCI manifest: fetched at the limit, refused above it."""
    where = pushed(registry, tmp_path)
    assert where.digest is not None
    bundle_json = (tmp_path / "made" / MANIFEST).stat().st_size
    total = sum(map(len, FILES.values())) + bundle_json
    oci_manifest = len(registry.manifests[REPOSITORY, where.digest][0])
    monkeypatch.setattr(registry_module, "MAX_BUNDLE_BYTES", total)
    monkeypatch.setattr(registry_module, "MAX_MANIFEST_BYTES", max(bundle_json, oci_manifest))
    pull(reference(registry), tmp_path / "got", insecure=True)
    monkeypatch.setattr(registry_module, "MAX_BUNDLE_BYTES", total - 1)
    assert f"it has {total} bytes" in refused(registry, tmp_path)
    monkeypatch.setattr(registry_module, "MAX_MANIFEST_BYTES", oci_manifest - 1)
    assert "sent a manifest of over" in refused(registry, tmp_path)
    manifest: dict[str, Any] = registry.manifest(REPOSITORY, "1.2.0")
    manifest["config"]["size"] = oci_manifest + 1
    monkeypatch.setattr(registry_module, "MAX_MANIFEST_BYTES", oci_manifest)
    registry.put_artifact(REPOSITORY, "big", {**manifest, "layers": []})
    assert f"its bundle.json has {oci_manifest + 1} bytes" in refused(registry, tmp_path, "big")


def test_a_taken_target_is_replaced_only_when_forced(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    """An empty folder is free; a bundle is replaced by force; anything else never is."""
    pushed(registry, tmp_path)
    target = tmp_path / "got"
    target.mkdir()
    pull(reference(registry), target, insecure=True)
    tiny_bundle(target, version="0.9.0")
    with pytest.raises(BundleError, match=r"is not empty; .* --force"):
        pull(reference(registry), target, insecure=True)
    assert open_bundle(target).manifest.version == "0.9.0"
    assert pull(reference(registry), target, insecure=True, force=True).manifest.version == "1.2.0"
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="is not a bundle, so it is not replaced"):
        pull(reference(registry), home, insecure=True, force=True)
    for not_a_folder in (home / "thesis.txt", tmp_path / "link"):
        if not not_a_folder.exists():
            not_a_folder.symlink_to(target)
        with pytest.raises(BundleError, match="is not a folder"):
            pull(reference(registry), not_a_folder, insecure=True, force=True)


def test_a_failed_pull_keeps_the_bundle_that_was_there(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    """Even by force, the old one goes only when the new one is verified."""
    pushed(registry, tmp_path)
    tiny_bundle(tmp_path / "got", version="0.9.0")
    registry.replace_blob(digest_of(FILES[CARD]), b"#" * len(FILES[CARD]))
    with pytest.raises(BundleError, match="digest"):
        pull(reference(registry), tmp_path / "got", insecure=True, force=True)
    assert open_bundle(tmp_path / "got").manifest.version == "0.9.0"


def test_a_target_that_cannot_be_written_is_named(registry: FakeRegistry, tmp_path: Path) -> None:
    """A file where a folder is needed is one sentence."""
    pushed(registry, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="cannot be"):
        pull(reference(registry), tmp_path / "file" / "got", insecure=True)


def test_a_missing_version_is_named(registry: FakeRegistry, tmp_path: Path) -> None:
    """A tag that nobody pushed."""
    pushed(registry, tmp_path)
    assert "has no 9.9.9; check the name and the version." in refused(registry, tmp_path, "9.9.9")


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_credentials_are_docker_s(tmp_path: Path, docker: Path, auth: Any) -> None:  # noqa: ANN401
    """Basic and token registries take what `docker login` left, for pushing and pulling."""
    with fake_registry(auth) as registry:
        log_in(docker, registry.host)
        pushed(registry, tmp_path)
        bundle = pull(reference(registry), tmp_path / "got", insecure=True)
        assert bundle.folder == tmp_path / "got"


@pytest.mark.parametrize("auth", ["basic", "bearer"])
@pytest.mark.parametrize("password", ["", "wrong"])
def test_without_credentials_it_says_so_at_once(
    tmp_path: Path,
    docker: Path,
    auth: Any,  # noqa: ANN401
    password: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No retry helps against missing or wrong credentials, and no secret is logged."""
    with fake_registry(auth) as registry:
        if password:
            log_in(docker, registry.host, password)
        tiny_bundle(tmp_path / "made")
        start = time.monotonic()
        with caplog.at_level(logging.DEBUG), pytest.raises(BundleError, match="docker login 127"):
            push(tmp_path / "made", reference(registry), insecure=True)
        assert "docker login 127" in refused(registry, tmp_path)
        assert time.monotonic() - start < 5
    assert base64.b64encode(f"{USER}:{password}".encode()).decode() not in caplog.text


def test_credentials_go_to_no_other_host(
    tmp_path: Path, docker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry that sends an upload elsewhere does not send our password with it."""
    with fake_registry("basic") as registry, fake_registry("basic") as other:
        log_in(docker, registry.host)
        monkeypatch.setattr(
            "service.oci_client.OciClient._get_location",
            lambda *_: f"http://{other.host}/v2/{REPOSITORY}/blobs/uploads/0",
        )
        tiny_bundle(tmp_path / "made")
        with pytest.raises(BundleError, match="wants other credentials"):
            push(tmp_path / "made", reference(registry), insecure=True)
        assert len(other.requests) == 1


def test_unreadable_credentials_are_named(tmp_path: Path, docker: Path) -> None:
    """A broken docker configuration is not a traceback."""
    (docker / "config.json").write_text("{")
    with pytest.raises(BundleError, match="holds no credentials to read"):
        pull("oci://127.0.0.1:1/model:1", tmp_path / "got", insecure=True)


def test_an_unreachable_registry_is_named(tmp_path: Path) -> None:
    """Nobody listens: the system's reason and what to try, soon."""
    port = free_port()
    start = time.monotonic()
    with pytest.raises(BundleError) as caught:
        pull(f"oci://127.0.0.1:{port}/model:1", tmp_path / "got")
    assert time.monotonic() - start < 5
    assert str(caught.value) == (
        f"oci://127.0.0.1:{port}/model cannot be reached (Connection refused); check the address "
        "and the network, or add --insecure if it speaks plain http."
    )


def test_plain_http_without_insecure_hints_at_it(registry: FakeRegistry, tmp_path: Path) -> None:
    """The default is https, and a local registry often has none."""
    with pytest.raises(BundleError, match="add --insecure if it speaks plain http"):
        pull(reference(registry), tmp_path / "got")


@pytest.mark.parametrize("status", [400, 500, 503])
def test_a_registry_out_of_order_says_its_status(
    registry: FakeRegistry, tmp_path: Path, status: int
) -> None:
    """Its own words are passed on, for push and pull."""
    registry.broken = status
    assert f"refused with status {status} (out of order)" in refused(registry, tmp_path)
    with pytest.raises(BundleError, match=f"refused with status {status}"):
        pushed(registry, tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "registry.example/model:1", "oci://registry.example/model", "oci:///model:1",
     "oci://registry.example/Model:1", "oci://registry.example/../model:1",
     "oci://user@registry.example/model:1", "oci://registry.example/model:1?x",
     "oci://registry.example/model@sha256:00", "https://registry.example/model:1"],
)  # fmt: skip
def test_a_wrong_reference_shows_a_right_one(text: str) -> None:
    """There is no default registry, no default tag and no way to smuggle in another URL."""
    with pytest.raises(BundleError, match=r"write it like oci://registry\.example"):
        Reference.parse(text)


@pytest.mark.parametrize(
    "text",
    ["oci://registry/model:1", "oci://registry.example:5000/a.b/c_d/model:1.2.0-rc.1",
     "oci://[::1]:5000/model:1", f"oci://registry.example/model@sha256:{'0' * 64}"],
)  # fmt: skip
def test_a_reference_reads_as_it_was_written(text: str) -> None:
    """Hosts without a dot, with ports and by address; paths with dots; tags and digests."""
    assert str(Reference.parse(text)) == text


def test_a_digest_decides_over_a_tag() -> None:
    """Both may be given, as docker does."""
    where = Reference.parse(f"oci://registry.example/model:1@sha256:{'0' * 64}")
    assert where.name == f"sha256:{'0' * 64}"
