"""What open_bundle lets in, what it refuses, and what it says."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from service import bundle as bundle_module
from service.bundle import DEFAULT_BUNDLE, MANIFEST, GateFacts, json_schema, open_bundle, seal
from service.domain import BundleError, WindowSpec
from tests.support.bundles import FILES, tiny_bundle, tiny_draft
from tests.support.networks import floating_types

GATE = {
    "split": "validation",
    "clips": 831,
    "macro_f1_lost": {"value": 0.001, "low": -0.004, "high": 0.006},
    "agreement": 0.985,
    "parity": 0.0,
}
SCHEMA = Path(__file__).parents[2] / "docs" / "bundle.schema.json"


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change bundle.json in place."""
    content = json.loads((folder / MANIFEST).read_text())
    change(content)
    (folder / MANIFEST).write_text(json.dumps(content))


def refusal(folder: Path) -> str:
    """Return the sentence with which the bundle is refused."""
    with pytest.raises(BundleError) as caught:
        open_bundle(folder)
    sentence = str(caught.value)
    assert sentence.startswith("The bundle ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_a_sealed_bundle_opens_with_its_facts(tmp_path: Path) -> None:
    """What seal wrote is what open_bundle reads."""
    sealed = tiny_bundle(tmp_path)
    opened = open_bundle(tmp_path)
    assert opened == sealed
    assert opened.manifest.labels == ("calm", "angry")
    assert opened.manifest.audio.window == WindowSpec(2.0, 1.0)
    assert set(opened.manifest.files) == set(FILES)
    assert opened.digest.startswith("sha256:")


def test_sealing_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    """bundle.json depends on the draft and the files only."""
    first, second = tiny_bundle(tmp_path / "a"), tiny_bundle(tmp_path / "b")
    assert first.digest == second.digest
    raw = (tmp_path / "a" / MANIFEST).read_text()
    assert seal(tmp_path / "a", tiny_draft()).digest == first.digest
    assert raw == json.dumps(json.loads(raw), indent=2, sort_keys=True) + "\n"


def test_paths_are_given_for_verified_files_only(tmp_path: Path) -> None:
    """A file, a folder of files, weights by precision and runtime; nothing else."""
    opened = tiny_bundle(tmp_path)
    assert opened.path("README.md") == tmp_path / "README.md"
    assert opened.weights("fp32", "openvino") == tmp_path / "openvino/fp32.xml"
    assert opened.weights("fp32", "torch") == tmp_path / "torch"
    for wrong in ("other.md", "../README.md", "tor"):
        with pytest.raises(BundleError, match="has no file"):
            opened.path(wrong)
    with pytest.raises(BundleError, match="no int8 weights for torch"):
        opened.weights("int8", "torch")


def test_another_bundle_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    """With a digest given, only that very bundle.json opens."""
    opened = tiny_bundle(tmp_path)
    assert open_bundle(tmp_path, digest=opened.digest) == opened
    rewrite(tmp_path, lambda content: content.update(licence="MIT"))
    with pytest.raises(BundleError, match="not the expected one"):
        open_bundle(tmp_path, digest=opened.digest)


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_not_json_is_refused(tmp_path: Path, raw: bytes) -> None:
    """Truncated, binary or absurdly nested text is one sentence, not a traceback."""
    tiny_bundle(tmp_path)
    (tmp_path / MANIFEST).write_bytes(raw)
    assert "not JSON" in refusal(tmp_path)


@pytest.mark.parametrize("raw", [b"[]", b"null", b"7", b"{}", b'{"kind": 7}'])
def test_json_that_is_no_manifest_is_refused(tmp_path: Path, raw: bytes) -> None:
    """JSON of another shape is a wrong bundle.json."""
    tiny_bundle(tmp_path)
    (tmp_path / MANIFEST).write_bytes(raw)
    assert "wrong bundle.json" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format", 0),
        ("format", None),
        ("name", "Not A Slug"),
        ("version", "1.2"),
        ("version", "1.2.0\n"),
        ("created", "2026-01-02T03:04:05"),
        ("created", "2026-01-02T03:04:05+03:00"),
        ("licence", " "),
        ("labels", ["one"]),
        ("labels", ["one", "one"]),
        ("labels", ["one", ""]),
        ("surprise", 1),
        ("audio.sample_rate", 8000),
        ("audio.window_s", 0),
        ("audio.window_s", "2"),
        ("audio.hop_s", 3.0),
        ("audio.normalisation", "none"),
        ("precisions", {}),
        ("precisions.fp16", {}),
        ("precisions.fp32.temperature", 0),
        ("precisions.fp32.temperature", float("nan")),
        ("precisions.fp32.metrics.validation.accuracy", float("inf")),
        ("precisions.fp32.review_threshold", 1.01),
        ("precisions.fp32.runtimes", {}),
        ("precisions.fp32.runtimes.openvino", "elsewhere/fp32.xml"),
        ("precisions.fp32.runtimes.torch", "../torch"),
        ("precisions.fp32.gate", {**GATE, "agreement": 1.01}),
        ("precisions.fp32.gate", {**GATE, "clips": 0}),
        ("precisions.fp32.gate", {**GATE, "parity": -0.1}),
        ("precisions.fp32.gate", {"split": "validation"}),
        ("reference.rms_db", float("nan")),
        ("data", [{"name": "corpus"}]),
        ("files", {}),
    ],
)
def test_a_wrong_field_is_refused_by_name(tmp_path: Path, path: str, value: object) -> None:
    """Each field has a type and a range, and the sentence says which one is wrong."""
    tiny_bundle(tmp_path)
    *parents, last = path.split(".")

    def change(content: dict[str, Any]) -> None:
        for parent in parents:
            content = content[parent]
        content[last] = value

    rewrite(tmp_path, change)
    sentence = refusal(tmp_path)
    assert "wrong bundle.json" in sentence
    assert last in sentence or "needed but not listed" in sentence


def test_a_reduced_precision_says_what_it_costs(tmp_path: Path) -> None:
    """bf16 shares fp32's weights, with a gate's figures; without them it is ungated."""
    draft = tiny_draft()
    fp32 = draft.precisions["fp32"]
    gate = GateFacts.model_validate(GATE)
    reduced = fp32.model_copy(update={"gate": gate, "temperature": 1.4})
    opened = tiny_bundle(tmp_path, precisions={"fp32": fp32, "bf16": reduced})
    assert opened.weights("bf16", "openvino") == opened.weights("fp32", "openvino")
    assert opened.manifest.precisions["bf16"].gate == gate
    assert opened.manifest.precisions["fp32"].gate is None


@pytest.mark.parametrize("field", ["format", "kind", "files", "audio", "reference"])
def test_no_field_is_guessed(tmp_path: Path, field: str) -> None:
    """A bundle.json says everything itself."""
    tiny_bundle(tmp_path)
    rewrite(tmp_path, lambda content: content.pop(field))
    assert f"{field}: Field required" in refusal(tmp_path)


def test_a_newer_format_asks_for_an_upgrade(tmp_path: Path) -> None:
    """A format of the future is told from a broken one, whatever else it holds."""
    tiny_bundle(tmp_path)
    rewrite(tmp_path, lambda content: content.update(format=2, kind="unheard-of", new=1))
    assert "was made by a newer Timbre (format 2); upgrade this one." in refusal(tmp_path)


def test_an_unknown_kind_says_which_are_known(tmp_path: Path) -> None:
    """A kind that this version cannot run is named."""
    tiny_bundle(tmp_path)
    rewrite(tmp_path, lambda content: content.update(kind="video"))
    assert "is of kind 'video', unknown here; use audio." in refusal(tmp_path)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    """Neither an empty folder nor a missing one opens."""
    assert "has no bundle.json to read" in refusal(tmp_path)
    assert "No such file" in refusal(tmp_path / "absent")


def test_a_manifest_may_not_be_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle.json opens at the limit and not a byte above it."""
    tiny_bundle(tmp_path)
    size = (tmp_path / MANIFEST).stat().st_size
    monkeypatch.setattr(bundle_module, "MAX_MANIFEST_BYTES", size)
    open_bundle(tmp_path)
    monkeypatch.setattr(bundle_module, "MAX_MANIFEST_BYTES", size - 1)
    assert f"more than {size - 1} bytes" in refusal(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """What bundle.json lists must be there."""
    tiny_bundle(tmp_path)
    (tmp_path / "openvino/fp32.bin").unlink()
    assert "lacks openvino/fp32.bin; get the bundle again" in refusal(tmp_path)


def test_a_truncated_file_is_named_with_its_sizes(tmp_path: Path) -> None:
    """A download that stopped early is seen by its size."""
    tiny_bundle(tmp_path)
    (tmp_path / "openvino/fp32.bin").write_bytes(FILES["openvino/fp32.bin"][:-1])
    assert "has 255 bytes in openvino/fp32.bin, not 256" in refusal(tmp_path)


def test_a_tampered_byte_is_found(tmp_path: Path) -> None:
    """The size is the same, the sha256 is not."""
    tiny_bundle(tmp_path)
    (tmp_path / "openvino/fp32.xml").write_bytes(b"<nat/>\n")
    assert "has an altered openvino/fp32.xml" in refusal(tmp_path)


def test_an_extra_file_is_refused(tmp_path: Path) -> None:
    """Nothing rides along unlisted."""
    tiny_bundle(tmp_path)
    (tmp_path / "torch/more.json").write_text("{}")
    assert "holds torch/more.json, which bundle.json does not list" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["openvino/fp32.bin", "torch", MANIFEST])
def test_a_link_is_refused(tmp_path: Path, name: str) -> None:
    """A link could lead out of the bundle, even if what it shows has the right bytes."""
    folder = tmp_path / "bundle"
    tiny_bundle(folder)
    (folder / name).rename(tmp_path / "outside")
    (folder / name).symlink_to(tmp_path / "outside")
    assert "link" in refusal(folder)


def test_a_device_is_refused(tmp_path: Path) -> None:
    """Opening a pipe would wait for ever."""
    tiny_bundle(tmp_path)
    os.mkfifo(tmp_path / "torch/pipe.bin")
    assert "holds torch/pipe.bin, a link or device" in refusal(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["../out.md", "/etc/out.md", "a/../out.md", "./out.md", "a//out.md", "a\\out.md", "C:out.md",
     "a\0.md", "", "..", MANIFEST, "weights.pkl", "weights.pt", "weights.pth", "code.py", "none"],
)  # fmt: skip
def test_a_listed_path_stays_inside_and_is_data(tmp_path: Path, name: str) -> None:
    """No listed name leads out of the folder or to anything that could run."""
    tiny_bundle(tmp_path)
    rewrite(
        tmp_path, lambda content: content["files"].update({name: content["files"]["README.md"]})
    )
    assert "wrong bundle.json: files" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["weights.pkl", "torch/pytorch_model.pt", "script.py"])
def test_a_file_that_could_run_is_not_sealed(tmp_path: Path, name: str) -> None:
    """A bundle is data only."""
    tiny_bundle(tmp_path)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(BundleError, match="is not data a bundle may hold"):
        seal(tmp_path, tiny_draft())


@pytest.mark.parametrize(
    "head",
    [b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9", b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x07"],
)
def test_a_pickle_is_refused_by_any_name(tmp_path: Path, head: bytes) -> None:
    """PyTorch's .bin is a pickle, OpenVINO's is weights: the first bytes tell."""
    tiny_bundle(tmp_path)
    (tmp_path / "openvino/fp32.bin").write_bytes(head + bytes(100))
    with pytest.raises(BundleError, match=r"openvino/fp32\.bin, a pickle"):
        seal(tmp_path, tiny_draft())


@pytest.mark.parametrize("name", ["README.md", "openvino/fp32.bin", "torch/config.json"])
def test_what_a_bundle_needs_is_not_left_out_when_sealing(tmp_path: Path, name: str) -> None:
    """A card, and the files each runtime reads."""
    tiny_bundle(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is needed but not listed"):
        seal(tmp_path, tiny_draft())


def test_a_draft_says_when_in_utc() -> None:
    """A naive time is refused where it is made."""
    with pytest.raises(ValidationError):
        tiny_draft(created=datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.fixture(scope="module")
def sealed() -> Any:  # noqa: ANN401
    """Give hypothesis one bundle to damage and mend over and over."""
    with tempfile.TemporaryDirectory() as folder:
        yield tiny_bundle(Path(folder))


@settings(max_examples=200)
@given(data=st.data())
def test_any_flipped_byte_is_noticed(sealed: bundle_module.Bundle, data: st.DataObject) -> None:
    """Changing any one byte of any file refuses the bundle; bundle.json's show in its digest."""
    path = sealed.folder / data.draw(st.sampled_from([*FILES, MANIFEST]))
    good = path.read_bytes()
    index = data.draw(st.integers(0, len(good) - 1))
    damaged = bytearray(good)
    damaged[index] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    try:
        with pytest.raises(BundleError):
            open_bundle(sealed.folder, digest=sealed.digest)
        if path.name != MANIFEST:
            with pytest.raises(BundleError):
                open_bundle(sealed.folder)
    finally:
        path.write_bytes(good)


def test_a_copied_bundle_is_the_same_bundle(tmp_path: Path) -> None:
    """The digest depends on nothing but content."""
    opened = tiny_bundle(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert open_bundle(tmp_path / "b").digest == opened.digest


def test_the_published_schema_is_up_to_date_and_true(tmp_path: Path) -> None:
    """docs/bundle.schema.json is what the code checks, and takes a sealed bundle.json."""
    assert SCHEMA.read_text() == json_schema(), (
        "run: python -c 'from service.bundle import json_schema; print(json_schema(), end=\"\")' "
        "> docs/bundle.schema.json"
    )
    tiny_bundle(tmp_path)
    jsonschema.validate(json.loads((tmp_path / MANIFEST).read_text()), json.loads(json_schema()))


def test_the_embedded_network_is_fp32_in_every_operation() -> None:
    """Its constants are stored in fp16; with others its answers would depend on the machine."""
    network = open_bundle(DEFAULT_BUNDLE).weights("fp32", "openvino")
    assert floating_types(network) == {"f16", "f32"}
