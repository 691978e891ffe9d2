"""A model in every form that a contender loads, made once and kept in a folder.

    torch/               safetensors in float32, for transformers and its pipeline
    bundle/              a Timbre bundle; the peers with OpenVINO load the weights in it, too
    fp32.onnx int8.onnx  for ONNX Runtime, int8 by its own static quantisation
    model.json           what each of the benchmark's clips should be answered with

What the bundle has beyond fp32 is ungated, unless the embedded one brought it: bf16 is fp32's
weights, and int8 is quantised on a few clips without asking for accuracy.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.clips import SPEC, wavs, windows
from benchmarks.peers.servers.engines import BUNDLE, open_engine, weights
from service.bundle import (
    DEFAULT_BUNDLE,
    MANIFEST,
    AudioDraft,
    Precision,
    open_bundle,
    parse_manifest,
    seal,
)
from service.domain import Samples

CLIPS = 16
INT8 = "openvino/int8.xml"
HEAD = ".*classifier.*"
"""Stays in floating point, as grouped convolutions do: in int8, OpenVINO 2026.4 gives every window
of a batch but the first wrong logits, and on CPUs with AMX the convolution wrong values."""
RECIPE = 2
"""Raise it when what is made here changes: folders of another recipe are made anew."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model in a folder, with the logits of each clip by the precision that scored it."""

    name: str
    folder: Path
    labels: list[str]
    temperature: float
    """Timbre divides logits by it; the others don't."""
    parameters: int
    gflop: float
    """Multiplications and additions of matrices for one clip, in 1e9."""
    logits: dict[str, list[list[float]]]

    @property
    def bundle(self) -> Path:
        """The Timbre bundle with every precision."""
        return self.folder / BUNDLE


def prepare(
    name: str, root: Path, peers: Path | None, *, int8: bool, say: Callable[[str], object]
) -> Model:
    """Make what is missing of a model, or find it made.

    Args:
        name: of `architectures.NAMES`.
        root: folder of all models.
        peers: interpreter of the peers' environment, which exports for ONNX Runtime; None leaves
            that out.
        int8: whether to quantise too.
        say: told what is being done.
    """
    folder = root / name
    facts = folder / "model.json"
    known = _known(facts)
    if known is None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        say(f"making {name}")
        known = _make(name, folder)
        facts.write_text(json.dumps(known), encoding="utf-8")
    if int8 and "int8" not in known["logits"]:
        say(f"quantising {name}")
        known["logits"]["int8"] = _quantise(folder)
        facts.write_text(json.dumps(known), encoding="utf-8")
    if peers is not None:
        _export(folder, peers, int8=int8, say=say)
    known.pop("recipe")
    return Model(folder=folder, **known)


def _known(facts: Path) -> dict[str, Any] | None:
    if not facts.is_file():
        return None
    known: dict[str, Any] = json.loads(facts.read_text(encoding="utf-8"))
    return known if known["recipe"] == RECIPE else None


def _make(name: str, folder: Path) -> dict[str, Any]:
    from benchmarks.peers import architectures
    from benchmarks.peers.limits import gflop

    heard = windows(wavs(CLIPS))
    model = architectures.build(name, heard)
    model.save_pretrained(folder / "torch")
    _write_extractor(folder / "torch")
    np.save(folder / "windows.npy", heard)
    labels = [model.config.id2label[number] for number in range(model.config.num_labels)]
    said = architectures.logits(model, heard).tolist()
    parameters = sum(weight.numel() for weight in model.parameters())
    if name == "compact":
        shutil.copytree(DEFAULT_BUNDLE, folder / BUNDLE)
    else:
        _bundle(name, model, folder / BUNDLE)
    manifest = open_bundle(folder / BUNDLE).manifest
    _add(folder / BUNDLE, "bf16", manifest.precisions["fp32"].runtimes["openvino"])
    return {
        "recipe": RECIPE,
        "name": name,
        "labels": labels,
        "temperature": manifest.precisions["fp32"].temperature,
        "parameters": parameters,
        "gflop": gflop(weights(folder, "openvino", "fp32")),
        "logits": {"fp32": said},
    }


def _bundle(name: str, model: Any, folder: Path) -> None:  # noqa: ANN401 - a transformers model
    from training import config, export

    settings = config.Config(
        bundle=config.Identity(name=name, version="0.0.0", licence="For measurements only"),
        windows=config.Windows(window_s=SPEC.window_s, hop_s=SPEC.hop_s),
        model=config.Model(checkpoint="random"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of what it fixes: the window's length
        export.write_weights(model, folder, SPEC.window)
    card = f"# {name}\n\nRandom weights, for measurements of speed: what it says means nothing.\n"
    export.seal_with_card(folder, card, export.draft(settings))


def _write_extractor(folder: Path) -> None:
    from transformers import Wav2Vec2FeatureExtractor

    Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=16_000, do_normalize=True, return_attention_mask=False
    ).save_pretrained(folder)


def _quantise(folder: Path) -> list[list[float]]:
    """Quantise the IR by NNCF on the clips, and give the int8 model's own logits of them."""
    import nncf
    import openvino

    heard: Samples = np.load(folder / "windows.npy")
    if "int8" not in open_bundle(folder / BUNDLE).manifest.precisions:
        model = openvino.Core().read_model(weights(folder, "openvino", "fp32"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch operators, for models that aren't torch's
            made = nncf.quantize(
                model,
                nncf.Dataset([window[None] for window in heard]),
                model_type=nncf.ModelType.TRANSFORMER,
                subset_size=len(heard),
                ignored_scope=nncf.IgnoredScope(types=["GroupConvolution"], patterns=[HEAD]),
            )
        openvino.save_model(made, folder / BUNDLE / INT8)
        _add(folder / BUNDLE, "int8", INT8)
    engine = open_engine("openvino", folder, precision="int8", threads=1)
    return [engine(window[None])[0].tolist() for window in heard]


def _add(folder: Path, precision: Precision, path: str) -> None:
    """Add a precision to a bundle, ungated and with fp32's calibration, unless it has it."""
    manifest = parse_manifest((folder / MANIFEST).read_bytes(), str(folder))
    if precision in manifest.precisions:
        return
    facts = manifest.precisions["fp32"].model_copy(update={"runtimes": {"openvino": path}})
    draft = {field: getattr(manifest, field) for field in AudioDraft.model_fields}
    precisions = {**manifest.precisions, precision: facts}
    seal(folder, AudioDraft.model_validate({**draft, "precisions": precisions}))


def _export(folder: Path, peers: Path, *, int8: bool, say: Callable[[str], object]) -> None:
    wanted = ["fp32", "int8"] if int8 else ["fp32"]
    missing = [kind for kind in wanted if not (folder / f"{kind}.onnx").is_file()]
    if missing:
        say(f"exporting {folder.name} to ONNX ({', '.join(missing)})")
        subprocess.run(  # noqa: S603 - our own program
            [peers, "-m", "benchmarks.peers.servers.to_onnx", folder, *missing], check=True
        )


def describe(model: Model) -> dict[str, Any]:
    """Facts of a model for the raw data."""
    facts = asdict(model)
    del facts["folder"], facts["logits"]
    precisions = open_bundle(model.bundle).manifest.precisions
    return {**facts, "gated": [name for name, known in precisions.items() if known.gate]}
