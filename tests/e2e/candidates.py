"""Models that are to replace the embedded one, and a golden set that it is right about.

Each is the embedded bundle under another version, changed in a pod beside the release; what is
wrong with one is what its name says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e import kubectl, volumes
from tests.e2e.cluster import Cluster, client, wait_ready
from tests.e2e.test_bundles import PORT, SERVE
from tests.support import audio
from tests.support import registry as oci

REGISTRY = "models"
GOLDEN = "golden"
"""The claim of the golden set."""
VOICES, CLIPS = 16, 10
"""Voices of the golden set, and clips of one second of each."""
FEWEST = 10
"""Clips below which a label says nothing: the set has no clips of such."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a candidate."""

    noise: float = 0.0
    """In its weights, by their deviation: it is as bad as with too little training."""
    passes: int = 1
    """Of its network over each window: the same answers, so many times slower."""


FAULTS: Mapping[str, Fault] = {
    "good": Fault(),
    "degraded": Fault(noise=0.2),
    "slow": Fault(passes=4),
}
_MAKE = """
import re, shutil, sys
from pathlib import Path
import numpy as np
import openvino
from openvino import opset13 as op
from service.bundle import DEFAULT_BUNDLE, AudioDraft, open_bundle, seal

folder, version = Path(sys.argv[1]), sys.argv[2]
noise, passes = float(sys.argv[3]), int(sys.argv[4])
shutil.copytree(DEFAULT_BUNDLE, folder)
random = np.random.default_rng(0)


def worsen(network):
    weights = np.fromfile(network.with_suffix(".bin"), np.uint8)
    constant = r'element_type="(f16|f32)" shape="[^"]+" offset="(\\d+)" size="(\\d+)"'
    for kind, offset, size in re.findall(constant, network.read_text()):
        part = weights[int(offset) : int(offset) + int(size)]
        values = part.view(np.float16 if kind == "f16" else np.float32)
        if values.size > 1000:
            deviation = values.std(dtype=np.float32)
            values += (noise * deviation * random.standard_normal(values.size)).astype(values.dtype)
    weights.tofile(network.with_suffix(".bin"))


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


for network in folder.glob("openvino/*.xml"):
    if noise:
        worsen(network)
    if passes > 1:
        slow_down(network)
manifest = open_bundle(DEFAULT_BUNDLE).manifest
facts = {name: getattr(manifest, name) for name in AudioDraft.model_fields}
print(seal(folder, AudioDraft.model_validate({**facts, "version": version})).digest)
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
    for number, (tag, fault) in enumerate(FAULTS.items()):
        folder = f"/tmp/{tag}"  # noqa: S108 - in the pod
        how = (f"{90 + number}.0.0", str(fault.noise), str(fault.passes))
        digests[tag] = kubectl.python(REGISTRY, cluster.namespace, _MAKE, folder, *how).strip()
        push = ("timbre", "bundle", "push", folder, _where("localhost", tag), "--insecure")
        kubectl.within(REGISTRY, cluster.namespace, *push)
    yield digests
    kubectl.delete("pod,service", REGISTRY, "--namespace", cluster.namespace)


def values(tag: str) -> tuple[str, ...]:
    """Give helm's arguments for the canary's bundle."""
    at = "canary.bundle"
    return (
        *("--set", f"{at}.source=registry", "--set", f"{at}.registry.insecure=true"),
        *("--set", f"{at}.registry.reference={_where(REGISTRY, tag)}"),
    )


@contextmanager
def golden(cluster: Cluster) -> Iterator[str]:
    """Claim a volume with a set of synthetic speech, whose labels are the embedded model's own."""
    source = Path(audio.__file__).read_text(encoding="utf-8")
    sizes = (str(VOICES), str(CLIPS), str(FEWEST))
    with volumes.claimed(GOLDEN, cluster) as write:
        write(source + _LABEL, f"{volumes.FOLDER}/speech", cluster.precision, *sizes)
        yield GOLDEN


def _where(host: str, tag: str) -> str:
    return f"oci://{host}:{PORT}/team/model:{tag}"
