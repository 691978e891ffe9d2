"""Models that are to replace the embedded one, and a golden set that it is right about.

Most are the embedded bundle under another version, changed in a pod beside the release; a degraded
one is trained, on next to nothing. What is wrong with one is what its name says.
"""

from __future__ import annotations

import io
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from service.bundle import open_bundle
from tests.e2e import kubectl, volumes
from tests.e2e.cluster import Cluster, client, wait_ready
from tests.e2e.kubectl import must
from tests.e2e.test_bundles import PORT, SERVE
from tests.support import audio, recordings
from tests.support import registry as oci

REGISTRY = "models"
GOLDEN = "golden"
"""The claim of the golden set."""
VOICES, CLIPS = 16, 10
"""Voices of the golden set, and clips of one second of each."""
TRAINING_S = 300
FEWEST = 10
"""Clips below which a label says nothing: the set has no clips of such."""


PASSES: Mapping[str, int] = {"good": 1, "slow": 4}
"""Of a candidate's network over each window: the same answers, so many times slower."""
DEGRADED = "degraded"
PRECISION = "fp32"
"""What all of them, and stable beside them, compute in: a training gates no other."""
_MAKE = """
import shutil, sys
from pathlib import Path
import numpy as np
import openvino
from openvino import opset13 as op
from service.bundle import DEFAULT_BUNDLE, AudioDraft, open_bundle, seal

folder, version, passes = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
shutil.copytree(DEFAULT_BUNDLE, folder)


def slow_down(network):
    # Each pass takes the one before for an input of no weight, so that none can be left out.
    models = [openvino.Core().read_model(network) for _ in range(passes)]
    (audio,) = models[0].get_parameters()
    for before, after in zip(models, models[1:]):
        answer = before.get_results()[0].input_value(0)
        total = op.reduce_sum(answer, op.constant(np.array([1])), keep_dims=True)
        heard = op.add(audio, op.multiply(total, op.constant(np.float32(1e-12))))
        for input in after.get_parameters()[0].output(0).get_target_inputs():
            input.replace_source_output(heard.output(0))
    slow = openvino.Model(models[-1].get_results(), [audio], "slow")
    openvino.save_model(slow, folder / "slow.xml")
    for suffix in (".xml", ".bin"):
        (folder / "slow").with_suffix(suffix).replace(network.with_suffix(suffix))


if passes > 1:
    for network in folder.glob("openvino/*.xml"):
        slow_down(network)
manifest = open_bundle(DEFAULT_BUNDLE).manifest
facts = {name: getattr(manifest, name) for name in AudioDraft.model_fields}
print(seal(folder, AudioDraft.model_validate({**facts, "version": version})).digest)
"""
_UNPACK = """
import io, sys, tarfile
tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read())).extractall("/tmp")
"""
_LABEL = """
import collections, csv, json, subprocess, sys
from pathlib import Path

folder, precision = Path(sys.argv[1]), sys.argv[2]
voices, clips, fewest = map(int, sys.argv[3:])
(folder / "clips").mkdir(parents=True)
for voice in range(voices):
    said = speech_like(clips, voice)
    for clip, samples in enumerate(said.reshape(clips, -1)):
        (folder / f"clips/{voice}-{clip}.wav").write_bytes(encoded(samples))
asked = ["timbre", "classify", str(folder), "--json", "--precision", precision]
lines = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
answers = [answer for answer in map(json.loads, lines) if answer["label"]]
counts = collections.Counter(answer["label"] for answer in answers)
with (folder / "labels.csv").open("w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["file", "label", "speaker"])
    for answer in answers:
        if counts[answer["label"]] >= fewest:
            path = Path(answer["path"]).relative_to(folder)
            table.writerow([path, answer["label"], path.stem.partition("-")[0]])
made = ["timbre", "golden", "create", folder / "labels.csv", "--out", folder / "golden.json"]
print(subprocess.run(made, capture_output=True, text=True, check=True).stdout)
"""


@contextmanager
def pushed(cluster: Cluster) -> Iterator[dict[str, str]]:
    """Make all of them in a registry beside the release; digests by their tags."""
    pod = client(REGISTRY, cluster.namespace, f"{cluster.repository}:{cluster.tag}")
    container = pod["spec"]["containers"][0]
    source = Path(oci.__file__).read_text(encoding="utf-8")
    container["command"] = ["python", "-c", source + SERVE]
    container["resources"]["limits"]["memory"] = "1Gi"
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": REGISTRY, "namespace": cluster.namespace},
        "spec": {"selector": {"app": REGISTRY}, "ports": [{"port": PORT}]},
    }
    kubectl.apply(pod, service)
    wait_ready(REGISTRY, cluster.namespace)
    digests = {}
    for number, (tag, passes) in enumerate(PASSES.items()):
        how = (f"/tmp/{tag}", f"{90 + number}.0.0", str(passes))  # noqa: S108 - in the pod
        digests[tag] = kubectl.python(REGISTRY, cluster.namespace, _MAKE, *how).strip()
    digests[DEGRADED] = _train(cluster)
    for tag in digests:
        folder = f"/tmp/{tag}"  # noqa: S108 - in the pod
        push = ("timbre", "bundle", "push", folder, _where("localhost", tag), "--insecure")
        kubectl.within(REGISTRY, cluster.namespace, *push)
    yield digests
    kubectl.delete("pod,service", REGISTRY, "--namespace", cluster.namespace)


def values(tag: str, at: str = "canary.bundle") -> tuple[str, ...]:
    """Give helm's arguments for a bundle of the values, by default the canary's."""
    return (
        *("--set", f"{at}.source=registry", "--set", f"{at}.registry.insecure=true"),
        *("--set", f"{at}.registry.reference={_where(REGISTRY, tag)}"),
    )


def _train(cluster: Cluster) -> str:
    """Train a model in half a minute, as `make smoke` does, and put it into the pod; its digest."""
    with tempfile.TemporaryDirectory() as temporary:
        data, run = recordings.make(Path(temporary, "data")), Path(temporary, "run")
        command = [sys.executable, "-m", "training", "run", "smoke", "--data", data, "--run", run]
        must(*map(str, command), timeout=TRAINING_S)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(run / "bundle", DEGRADED)
        unpack = ("python", "-c", _UNPACK)
        kubectl.within(REGISTRY, cluster.namespace, *unpack, stdin=archive.getvalue())
        return open_bundle(run / "bundle").digest


@contextmanager
def golden(cluster: Cluster) -> Iterator[str]:
    """Claim a volume with a set of synthetic speech, whose labels are the embedded model's own."""
    source = Path(audio.__file__).read_text(encoding="utf-8")
    sizes = (str(VOICES), str(CLIPS), str(FEWEST))
    with volumes.claimed(GOLDEN, cluster) as write:
        write(source + _LABEL, f"{volumes.FOLDER}/speech", PRECISION, *sizes)
        yield GOLDEN


def _where(host: str, tag: str) -> str:
    return f"oci://{host}:{PORT}/team/model:{tag}"
