"""`timbre compare` of servers that a Prometheus scrapes as k8s/monitoring has it do with pods."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from click.testing import CliRunner

from service.bundle import Bundle
from service.canary import pods
from service.canary.findings import Findings
from service.canary.live import SETTLED_S
from service.canary.live_checks import FEWEST_BLOCKS
from service.canary.prometheus import Prometheus
from service.canary.verdict import Outcome
from service.cli import main
from service.contract import TRACK
from tests.support import monitoring
from tests.support.audio import encoded, speech_like
from tests.support.models import tiny_model_bundle
from tests.support.server import PATIENCE_S, ROOT, Server, eventually, serving

CONFIG = ROOT / "k8s/monitoring/prometheus.yml"
SPEECH = encoded(speech_like(1.0))
PODS = {
    "stable": "timbre-5d8f7c9b4-aaaaa",
    "baseline": "timbre-baseline-5d8f7c9b4-aaaaa",
    "canary": "timbre-canary-6d8f7c9b4-aaaaa",
}
ROUNDS = FEWEST_BLOCKS + 2
"""Each takes a block's time, in which clips go to both sides in turns: however the edges of blocks
lie, what is between the first round and the last has clips of both."""
CLIPS = {"stable": 30, "baseline": 6 * ROUNDS, "canary": 5 * ROUNDS}
"""Sent to each; the first are shadowed to the others."""
FORCED = 5
SCRAPE_S = 4
"""On a busy machine a scrape takes a while, and what one misses is not known of its block."""
BLOCK_S = 5
"""The shortest that there is."""
POLICY = """
[planned]
live = 35
shadow = 30

[checks.disagreement]
margin = 0.5
samples = 30

[checks.error_rate]
margin = 0.9
samples = 15

[steps.10]
requires = ["sides", "restarts", "error_rate", "disagreement"]
samples = { error_rate = 15 }
"""

pytestmark = [pytest.mark.needs_prometheus, pytest.mark.timeout(400)]


@dataclass(frozen=True)
class Release:
    """Three servers, and who scrapes them."""

    servers: Mapping[str, Server]
    prometheus: Prometheus
    options: tuple[str, ...]

    def send(self, track: str, **headers: str) -> None:
        """Have a server answer a clip."""
        httpx.post(
            f"{self.servers[track].url}/v1/classify",
            content=SPEECH,
            headers=headers,
            timeout=PATIENCE_S,
        ).raise_for_status()

    def asked(self, expr: str) -> dict[str, float]:
        """What an expression is now, by pod."""
        found = self.prometheus.instant(expr, self.prometheus.now())
        return {sample.labels["pod"]: sample.value for sample in found}

    def known(self, blocks: int) -> bool:
        """Whether all servers have been scraped for so many blocks, the last of which settled."""
        ago_s = (blocks + 1) * BLOCK_S + SETTLED_S
        return self.asked(f"timbre_model_info offset {ago_s:.0f}s").keys() == set(PODS.values())


def target(track: str, port: int) -> dict[str, Any]:
    """Describe a server as Kubernetes does a pod."""
    pod = {
        "namespace": "audio",
        "pod_name": PODS[track],
        "pod_phase": "Running",
        "pod_annotation_prometheus_io_scrape": "true",
        "pod_annotation_prometheus_io_port": str(port),
        "pod_container_port_number": str(port),
        "pod_label_track": track,
    }
    labels = {f"__meta_kubernetes_{name}": value for name, value in pod.items()}
    return {"targets": [f"127.0.0.1:{port}"], "labels": labels}


@pytest.fixture(scope="module")
def release(tiny_model: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """Stable, a baseline that serves the same, and a candidate that says the same."""
    folder = tmp_path_factory.mktemp("release")
    (folder / "policy.toml").write_text(POLICY, encoding="utf-8")
    candidate = tiny_model_bundle(folder / "candidate", version="1.1.0")
    with ExitStack() as stack:
        servers = {}
        for track, bundle in (("canary", candidate), ("baseline", tiny_model)):
            log = folder / f"{track}.log"
            servers[track] = stack.enter_context(serving(bundle, log, TIMBRE_TRACK=track))
        urls = ",".join(f"{track}={server.internal_url}" for track, server in servers.items())
        shadowing = {"TIMBRE_SHADOW_URLS": urls, "TIMBRE_SHADOW_SAMPLE": 1}
        servers["stable"] = stack.enter_context(
            serving(tiny_model, folder / "stable.log", **shadowing)
        )
        (job,) = [
            job
            for job in yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["scrape_configs"]
            if job["job_name"] == "pods"
        ]
        del job["kubernetes_sd_configs"]
        targets = [target(track, server.internal_port) for track, server in servers.items()]
        config = {
            "global": {"scrape_interval": f"{SCRAPE_S}s", "scrape_timeout": f"{SCRAPE_S}s"},
            "scrape_configs": [job | {"static_configs": targets}],
        }
        url = stack.enter_context(monitoring.prometheus(config, folder))
        options = (
            *("--prometheus", url, "--namespace", "audio", "--name", "timbre", "--weight", "10"),
            *("--block", str(BLOCK_S), "--policy", str(folder / "policy.toml"), "--json", "-"),
        )
        yield Release(servers, stack.enter_context(Prometheus(url)), options)


@pytest.fixture(scope="module")
def sent(release: Release) -> Release:
    """All have answered clips, which Prometheus has seen, in as many blocks as are judged."""
    # What came before the first edge of a block would be in none.
    eventually(lambda: release.known(0), "all are scraped")
    stable = release.servers["stable"]
    for number in range(CLIPS["stable"]):
        release.send("stable")
        eventually(lambda: paired(stable) == 2 * (number + 1), "a shadow to each")  # noqa: B023
    begin_s = release.prometheus.now()
    turns = CLIPS["baseline"]
    for turn in range(turns):
        release.send("baseline")
        if turn % 6:  # five of six
            release.send("canary")
        until_s = begin_s + (turn + 1) * BLOCK_S * ROUNDS / turns
        eventually(lambda: release.prometheus.now() >= until_s, "the next turn")  # noqa: B023
    for _ in range(FORCED):
        release.send("canary", **{TRACK: "canary"})
    live = 'timbre_requests_total{route="/v1/classify",traffic="live"}'
    counted = f"sum by (pod) ({live} offset {BLOCK_S + SETTLED_S:.0f}s)"
    clips = {PODS[track]: count for track, count in CLIPS.items()}
    eventually(lambda: release.asked(counted) == clips, "all clips are counted")
    eventually(lambda: release.known(FEWEST_BLOCKS), "there are blocks enough")
    return release


def paired(stable: Server) -> float:
    """Read how many shadows stable counts as pairs."""
    text = httpx.get(f"{stable.internal_url}/metrics", timeout=PATIENCE_S).text
    lines = [line for line in text.splitlines() if line.startswith("timbre_shadow_clips_total{")]
    return sum(float(line.split()[-1]) for line in lines if 'outcome="paired"' in line)


def test_a_candidate_that_is_as_good_passes(sent: Release) -> None:
    """With each clip counted once, for the side that answered it; a shadow is a pair alone."""
    done = subprocess.run(
        [Path(sys.executable).with_name("timbre"), "compare", *sent.options],
        capture_output=True,
        check=False,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    told = Findings.model_validate_json(done.stdout)
    assert told.stable is not None
    assert told.candidate is not None
    assert (told.stable.versions, told.candidate.versions) == (["1.0.0"], ["1.1.0"])
    assert told.live is not None
    for side, track in ((told.live.baseline, "baseline"), (told.live.candidate, "canary")):
        assert (side.requests, side.errors, sum(side.seconds)) == (CLIPS[track], 0, CLIPS[track])
        assert (side.pods, side.restarts, side.down) == (1, 0, 0)
    assert told.shadow is not None
    assert told.shadow.clips == CLIPS["stable"]
    assert told.notes == []


def test_one_that_has_ended_fails(sent: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nothing of it is up any more, and Prometheus knows no model of it at the moment."""
    monkeypatch.setattr(pods, "DOWN_S", 0.9 * SCRAPE_S)  # two scrapes, in place of a minute's
    ending = sent.servers["canary"].process
    ending.terminate()
    ending.wait(PATIENCE_S)

    def look() -> Findings:
        done = CliRunner().invoke(main, ["compare", *sent.options])
        return Findings.model_validate_json(done.stdout)

    eventually(lambda: look().outcome is Outcome.FAIL, "it is known to be down")
    told = look()
    assert told.reason.startswith(
        "restarts fails: The candidate's servers started again 0 times and 1 is down, "
        "the baseline's 0 times;"
    )
    assert told.live is not None
    assert (told.live.candidate.requests, told.live.candidate.down) == (CLIPS["canary"], 1)
