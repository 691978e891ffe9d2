"""How the app is wired into BentoML, where that can be seen without a server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

SHOW = "import json; from service.app import Timbre; print(json.dumps(Timbre.config))"
UNTRACED = (
    "from bentoml._internal.container import BentoMLContainer as B; "
    "from service.app import Timbre; "
    "Timbre.inject_config(); print(B.tracing_excluded_urls.get().url_disabled('/v1/classify'))"
)


def _config(**settings: str) -> dict[str, Any]:
    """The service's configuration, from a process of its own with these variables."""
    config: dict[str, Any] = json.loads(_say(SHOW, settings))
    return config


def _say(script: str, variables: Mapping[str, str]) -> str:
    return subprocess.run(
        [sys.executable, "-c", script], env=variables, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_bentoml_s_own_time_out_comes_last_but_soon() -> None:
    """It keeps 5 KB of each request until it is due: an hour of it once filled the memory."""
    assert _config(TIMBRE_DEADLINE_S="20", TIMBRE_BODY_TIMEOUT_S="7")["traffic"]["timeout"] == 25
    assert _config(TIMBRE_DEADLINE_S="2", TIMBRE_BODY_TIMEOUT_S="7")["traffic"]["timeout"] == 12


def test_there_is_one_worker_without_bentoml_s_metrics() -> None:
    """Its metrics would take a client's paths for label values."""
    config = _config()
    assert config["workers"] == 1
    assert config["metrics"] == {"enabled": False}


def test_spans_are_made_for_those_who_sample_them_only() -> None:
    """Where BentoML samples no traces, a request's spans would cost CPU and reach nobody."""
    assert _say(UNTRACED, {}) == "True"
    assert _say(UNTRACED, {"BENTOML_CONFIG_OPTIONS": "tracing.sample_rate=0.5"}) == "False"
