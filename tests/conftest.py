"""What holds for the whole suite: no skip passes for a success, and data is asked for by name.

With CI=true a skipped test fails: a suite that quietly skips shows nothing. Tests that read the
recordings say so with `@pytest.mark.needs_data`; without TIMBRE_SPEECH_DATA they are not part of
the run, which says so. `@pytest.mark.needs_opensmile` likewise: its licence keeps openSMILE out of
what `make test` installs, and `@pytest.mark.needs_prometheus`, `@pytest.mark.needs_chromium` and
`@pytest.mark.needs_jq`, as none is a Python package; .ci/run installs them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings

from tests.support import browser

# How long an example takes says how busy the machine is.
settings.register_profile("timbre", deadline=None)
settings.load_profile("timbre")

SPEECH_DATA = "TIMBRE_SPEECH_DATA"
_Report = TypeVar("_Report", pytest.TestReport, pytest.CollectReport)

NEEDS = {
    "needs_data": f"they read recordings, and {SPEECH_DATA} names no folder",
    "needs_opensmile": "they need the extra baselines",
    "needs_jq": "they run rollout.sh, which needs jq (Debian's package jq)",
    "needs_chromium": "they need a browser (Debian's package chromium, or the one in CHROMIUM)",
    "needs_prometheus": "they need promtool and prometheus (Debian's package prometheus)",
}
"""Marker → why its tests are left out where they cannot run."""

ELSEWHERE = {"e2e": "TIMBRE_E2E", "image": "TIMBRE_IMAGE_ARCHIVE"}
"""Folder of tests of a whole cluster or image → the variable that `make e2e` and .ci/image.sh set
for them."""
collect_ignore = [folder for folder, variable in ELSEWHERE.items() if variable not in os.environ]

_left_out = pytest.StashKey[dict[str, int]]()


@pytest.fixture(scope="session")
def speech_data() -> Path:
    """The folder with manifest.csv and the recordings it lists; only for `needs_data` tests."""
    folder = Path(os.environ[SPEECH_DATA])
    assert (folder / "manifest.csv").is_file(), f"{SPEECH_DATA}={folder} has no manifest.csv"
    return folder


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs recordings or a library that are not there."""
    there = {
        "needs_data": bool(os.environ.get(SPEECH_DATA)),
        "needs_opensmile": find_spec("opensmile") is not None,
        "needs_jq": shutil.which("jq") is not None,
        "needs_chromium": browser.find() is not None,
        "needs_prometheus": all(map(shutil.which, ("promtool", "prometheus"))),
    }
    config.stash[_left_out] = {}
    for marker in NEEDS:
        without = [item for item in items if item.get_closest_marker(marker)]
        if there[marker] or not without:
            continue
        config.stash[_left_out][marker] = len(without)
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if item not in without]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where tests run in several processes, tell the one that writes the summary."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(_left_out, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 - of pytest-xdist, which has no types
    """Take it; all of them leave out the same."""
    node.config.stash[_left_out] = getattr(node, "workeroutput", {}).get("left_out", {})


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say what was left out, and why."""
    for marker, left_out in config.stash.get(_left_out, {}).items():
        terminalreporter.write_line(f"{left_out} tests left out: {NEEDS[marker]}.", yellow=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a skipped test a failed one in CI."""
    return _no_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Make a skipped module a failed one in CI."""
    return _no_skip((yield))


def _no_skip(report: _Report) -> _Report:
    # An expected failure is reported as skipped too, but it did run.
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"Skipped, which counts as failed in CI: {report.longrepr}"
    return report
