"""The benchmark from end to end, with a tiny model and short loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers import limits
from benchmarks.peers.results import Results

ROOT = Path(__file__).parents[2]
CONTENDERS = ("timbre-openvino-fp32", "bentoml-openvino-fp32")
"""Those that need nothing but what the tests need."""


# Half of it is imports, and the machine may be busy.
@pytest.mark.timeout(400)
def test_a_quick_session_measures_whom_it_is_asked_to(tmp_path: Path) -> None:
    """Both give the model's own labels to every clip; the report has a row for each."""
    chosen = [word for name in CONTENDERS for word in ("--contender", name)]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "peers", "--quick", "--busy", *chosen),
            *("--precision", "fp32", "--python", sys.executable),
            *("--work", str(tmp_path), "--out", str(tmp_path / "out")),
        ],
        cwd=ROOT,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    results = Results.read(tmp_path / "out" / "raw.json")
    assert not results.failures
    for name in CONTENDERS:
        for clients in (1, 8):
            (cell,) = results.of("tiny", name, "closed", clients)
            assert cell.answered == cell.requests >= 24
            assert cell.labels_differ == 0
            assert cell.largest_difference < 1e-3
            assert cell.cpu_ms > 0
        assert results.of("tiny", name, "open") or name == CONTENDERS[1]
    assert results.speed("tiny", CONTENDERS[0]) > 0
    assert results.bare("tiny", results.contenders[0]) > 0
    assert results.peaks["fp32"] > 0
    assert all(spent > 0 for spent in results.anatomy["tiny"].values())
    page = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "| Timbre | OpenVINO fp32 |" in page
    assert "| BentoML runner, batches of 8 | OpenVINO fp32 |" in page
    assert "Not a result: the profile `quick`" in page
    assert (tmp_path / "out" / "tiny-clips-per-second.svg").is_file()


def test_the_work_of_a_clip_is_counted_from_the_network() -> None:
    """The embedded model's front end, four layers and head: 2.95 GFLOP for its window of 3 s."""
    bundle = ROOT / "service" / "default_bundle"
    assert limits.gflop(bundle / "openvino" / "fp32.xml") == pytest.approx(2.95, rel=0.01)
