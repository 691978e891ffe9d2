"""`make smoke`: recordings made on the spot → a bundle → an answer over HTTP, in under a minute.

Everything is what an operator would use: the training's command line, `timbre serve`, a request.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import click
import httpx

from benchmarks.server import running
from service.bundle import open_bundle
from service.classifier import open_classifier
from tests.support.recordings import make
from training.__main__ import main as training

TOLERANCE = 1e-4
"""Between the served probabilities and those of the bundle opened here."""
TIMEOUT_S = 60


def main() -> int:
    """Go all the way and say what came of it; the exit status."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = make(folder / "data")
        options = ["--data", str(data), "--run", str(folder / "run"), "--test"]
        training(["run", "smoke", *options], prog_name="python -m training", standalone_mode=False)
        bundle = folder / "run" / "bundle"
        clip = (data / "speech" / "four-happy.flac").read_bytes()
        classifier = open_classifier(open_bundle(bundle))
        expected = classifier.classify(classifier.hear(clip))
        with running(TIMBRE_BUNDLE=str(bundle)) as server:
            url = f"http://127.0.0.1:{server.port}/v1/classify"
            headers = {"content-type": "audio/flac"}
            answer = httpx.post(url, content=clip, headers=headers, timeout=TIMEOUT_S)
            answer.raise_for_status()
    served = answer.json()
    click.echo(f"Answered over HTTP: {served['label']} {served['score']:.3f}, {served['decision']}")
    apart = max(
        abs(served["probabilities"][label] - score)
        for label, score in expected.probabilities.items()
    )
    if served["label"] != expected.label or apart > TOLERANCE:
        click.echo(f"The bundle itself says {expected.label}; {apart:.6f} apart.", err=True)
        return 1
    click.echo(f"From recordings to that answer in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
