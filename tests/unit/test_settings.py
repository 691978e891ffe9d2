"""Settings: one frozen object, and a wrong value says which variable it is in."""

from __future__ import annotations

import os
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.bundle import DEFAULT_BUNDLE
from service.domain import Track
from service.runtime import cpus
from service.settings import MAX_STREAMS, Settings, SettingsError, load, variable

INJECTED = ("PORT", "HOST", "SERVICE")
"""What Kubernetes puts after TIMBRE_ in every pod beside a Service called timbre."""


def test_without_variables_everything_has_its_default() -> None:
    """An empty environment serves the embedded model."""
    settings = load({})
    assert settings == Settings()
    assert settings.bundle == DEFAULT_BUNDLE
    assert settings.track is Track.STABLE


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("bundle", "/models/a", Path("/models/a")),
        ("fallback_bundle", "/models/b", Path("/models/b")),
        ("fallback_queue_s", "0.5", 0.5),
        ("track", "canary", Track.CANARY),
        ("runtime", "torch", "torch"),
        ("precision", "bf16", "bf16"),
        ("ungated", "true", True),
        ("profile", "throughput", "throughput"),
        ("streams", "2", 2),
        ("threads", "3", 3),
        ("cache", "/cache", Path("/cache")),
        ("max_batch", "16", 16),
        ("queue_windows", "10", 10),
        ("queue_s", "3", 3.0),
        ("decoders", "3", 3),
        ("decode_backlog", "5", 5),
        ("client_share", "0.25", 0.25),
        ("deadline_s", "2.5", 2.5),
        ("body_timeout_s", "1", 1.0),
        ("header_timeout_s", "3", 3.0),
        ("max_connections", "50", 50),
        ("drain_s", "15", 15.0),
        ("stuck_s", "0.5", 0.5),
        ("token_file", "/tokens/tokens", Path("/tokens/tokens")),
        ("cors_origins", "https://a.example,http://b:8", ("https://a.example", "http://b:8")),
        ("internal_port", "3001", 3001),
        ("internal_host", "::", IPv6Address("::")),
        ("shadow_urls", "canary=http://c:3001", {"canary": "http://c:3001"}),
        ("shadow_sample", "1", 1.0),
        ("log_level", "debug", "debug"),
    ],
)
def test_a_variable_sets_its_field(field: str, text: str, value: object) -> None:
    """Every field has its variable, and no other field changes."""
    settings = load({variable(field): text})
    assert getattr(settings, field) == value
    assert settings.model_dump(exclude={field}) == Settings().model_dump(exclude={field})


def test_every_field_is_in_the_list_above() -> None:
    """A new setting gets its case."""
    mark = test_a_variable_sets_its_field.pytestmark[0]  # type: ignore[attr-defined]
    assert [case[0] for case in mark.args[1]] == list(Settings.model_fields)


@pytest.mark.parametrize("field", list(Settings.model_fields))
def test_an_empty_variable_is_not_set(field: str) -> None:
    """Charts and compose files write empty strings where nothing was given."""
    assert load({variable(field): ""}) == Settings()


@pytest.mark.parametrize(
    ("field", "least", "most", "step"),
    [
        ("streams", 0, MAX_STREAMS, 1),
        ("threads", 0, 256, 1),
        ("max_batch", 1, 64, 1),
        ("queue_windows", 1, 100_000, 1),
        ("decoders", 0, 64, 1),
        ("decode_backlog", 1, 100_000, 1),
        ("client_share", 0.001, 1, 0.001),
        ("deadline_s", 0.001, 600, 0.001),
        ("body_timeout_s", 0.001, 600, 0.001),
        ("drain_s", 0, 600, 0.001),
        ("shadow_sample", 0.001, 1, 0.001),
        ("stuck_s", 0.001, 3600, 0.001),
        ("internal_port", 0, 65_535, 1),
    ],
)
def test_a_number_is_accepted_up_to_its_bounds_and_no_further(
    field: str, least: float, most: float, step: float
) -> None:
    """The least and the most are taken, the next ones are not."""
    for value in (least, most):
        assert getattr(load({variable(field): str(value)}), field) == value
    for value in (least - step, most + step):
        with pytest.raises(SettingsError, match=variable(field)):
            load({variable(field): str(value)})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("TIMBRE_TRACK", "purple"),
        ("TIMBRE_RUNTIME", "onnx"),
        ("TIMBRE_PRECISION", "fp16"),
        ("TIMBRE_UNGATED", "perhaps"),
        ("TIMBRE_PROFILE", "fast"),
        ("TIMBRE_THREADS", "many"),
        ("TIMBRE_THREADS", "1.5"),
        ("TIMBRE_DEADLINE_S", "nan"),
        ("TIMBRE_DEADLINE_S", "inf"),
        ("TIMBRE_INTERNAL_PORT", "metrics"),
        ("TIMBRE_INTERNAL_HOST", "localhost"),
        ("TIMBRE_INTERNAL_HOST", "0.0.0.0:3001"),
        ("TIMBRE_LOG_LEVEL", "LOUD"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable(name: str, text: str) -> None:
    """One sentence: the variable, what it holds, and what it may hold."""
    with pytest.raises(SettingsError) as refusal:
        load({name: text})
    assert str(refusal.value).startswith(f"{name}={text!r}: ")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("*", ("*",)),
        ("https://app.example", ("https://app.example",)),
        (" https://a.example , http://b:8000 ", ("https://a.example", "http://b:8000")),
        ("http://[::1]:8000", ("http://[::1]:8000",)),
        ("https://xn--bcher-kva.example:8443", ("https://xn--bcher-kva.example:8443",)),
        ("http://a:443,https://a:80", ("http://a:443", "https://a:80")),
        ("capacitor://localhost", ("capacitor://localhost",)),
    ],
)
def test_origins_are_taken_as_browsers_send_them(text: str, origins: tuple[str, ...]) -> None:
    """One or more, between commas, or all."""
    assert load({"TIMBRE_CORS_ORIGINS": text}).cors_origins == origins


@pytest.mark.parametrize(
    "wrong",
    [
        *("app.example", "https://app.example/", "https://app.example/page", "https://App.example"),
        *("https://a:443", "http://a:80", "https://*.example", "https://user@a", "https://a?b"),
        *("null", "https://", "https:a", "https://a\nb", "https://a b", "https://bü.example"),
    ],
)
def test_an_origin_that_no_browser_sends_is_refused(wrong: str) -> None:
    """Alone or beside others: it would never match, and nobody would know why."""
    for text in (wrong, f"https://app.example,{wrong}"):
        with pytest.raises(SettingsError) as refusal:
            load({"TIMBRE_CORS_ORIGINS": text})
        said = str(refusal.value)
        assert said.startswith(f"TIMBRE_CORS_ORIGINS={text!r}: {wrong!r} is no origin ")
        assert "\n" not in said


@pytest.mark.parametrize("text", ["*,https://a", "https://a,*", "https://a,", ",", "*,*"])
def test_all_origins_stand_alone_and_none_is_empty(text: str) -> None:
    """Beside others, all would be meant by mistake."""
    with pytest.raises(SettingsError, match="TIMBRE_CORS_ORIGINS"):
        load({"TIMBRE_CORS_ORIGINS": text})


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("baseline=http://b.audio.svc:3001", {"baseline": "http://b.audio.svc:3001"}),
        (
            " canary=http://10.0.0.1:1 , baseline=http://[::1]:65535/ ",
            {"canary": "http://10.0.0.1:1", "baseline": "http://[::1]:65535/"},
        ),
    ],
)
def test_candidates_are_taken_with_their_addresses(text: str, urls: dict[str, str]) -> None:
    """One or both, with a comma between."""
    assert load({"TIMBRE_SHADOW_URLS": text}).shadow_urls == urls


@pytest.mark.parametrize(
    "wrong",
    [
        *("http://a:3001", "stable=http://a:3001", "Canary=http://a:3001", "canary", "canary=", ""),
        *("canary=https://a:3001", "canary=a:3001", "canary=http://a", "canary=http://a:0"),
        *("canary=http://a:65536", "canary=http://a:3001/shadow", "canary=http://a:3001?b"),
        *("canary=http://user@a:3001", "canary=http://:3001", "canary=http://a b:3001"),
    ],
)
def test_what_is_no_candidate_s_address_is_refused(wrong: str) -> None:
    """Alone or beside another one, in one sentence."""
    for text in filter(None, (wrong, f"baseline=http://b:3001,{wrong}")):
        with pytest.raises(SettingsError) as refusal:
            load({"TIMBRE_SHADOW_URLS": text})
        said = str(refusal.value)
        assert said.startswith(f"TIMBRE_SHADOW_URLS={text!r}: {wrong!r} is none of canary and ")
        assert "\n" not in said


def test_a_candidate_has_one_address() -> None:
    """The second one would be forgotten."""
    with pytest.raises(SettingsError, match=r"^TIMBRE_SHADOW_URLS=.*: canary is there twice\.$"):
        load({"TIMBRE_SHADOW_URLS": "canary=http://a:1,canary=http://b:1"})


def test_what_kubernetes_injects_is_no_port() -> None:
    """Beside a Service called timbre-internal it sets the variable, in every pod that doesn't."""
    for protocol in ("tcp", "udp", "sctp"):
        injected = {"TIMBRE_INTERNAL_PORT": f"{protocol}://10.0.0.1:3001"}
        assert load(injected) == Settings()
    with pytest.raises(SettingsError, match="TIMBRE_INTERNAL_PORT"):
        load({"TIMBRE_INTERNAL_PORT": "http://10.0.0.1:3001"})


def test_other_variables_are_not_read() -> None:
    """Kubernetes' own, and typos, change nothing."""
    environment = {
        "TIMBRE_PORT": "tcp://10.0.0.1:3000",
        "TIMBRE_SERVICE_HOST": "10.0.0.1",
        "TIMBRE_PORT_3000_TCP": "tcp://10.0.0.1:3000",
        "THREADS": "7",
    }
    assert load(environment) == Settings()


def test_no_setting_has_a_name_that_kubernetes_injects() -> None:
    """A Service called timbre sets TIMBRE_PORT and others in every pod beside it."""
    assert not [name for name in Settings.model_fields if name.upper().startswith(INJECTED)]


def test_settings_do_not_change() -> None:
    """What was read at the start holds to the end."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().threads = 2


def test_threads_are_counted_when_not_given() -> None:
    """As many as this process may use, which a container's CPU set limits."""
    assert Settings(threads=3).engine_threads == 3
    assert Settings().engine_threads == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("given", "streams"),
    [
        ({"threads": 6}, 6),
        ({"profile": "latency", "threads": 6}, 1),
        ({"profile": "throughput", "threads": 6}, 6),
        ({"profile": "throughput", "threads": 6, "streams": 2}, 2),
        ({"profile": "throughput", "threads": MAX_STREAMS}, MAX_STREAMS),
        ({"profile": "throughput", "threads": MAX_STREAMS + 1}, MAX_STREAMS),
        ({"profile": "latency", "threads": 6, "streams": 2}, 2),
    ],
)
def test_streams_follow_the_profile_unless_they_are_given(
    given: dict[str, Any], streams: int
) -> None:
    """One with all threads for latency; one for each thread, as many as there may be, else."""
    assert Settings(**given).engine_streams == streams


@pytest.mark.parametrize(
    ("given", "adaptive"),
    [
        ({}, True),
        ({"threads": 6}, True),
        ({"streams": 1}, False),
        ({"profile": "latency"}, False),
        ({"profile": "throughput"}, False),
    ],
)
def test_streams_that_are_given_are_not_adapted(given: dict[str, Any], *, adaptive: bool) -> None:
    """Only those of the profile, if it is that one."""
    assert Settings(**given).adaptive is adaptive


def test_a_stream_for_each_cpu_where_threads_are_not_given_either() -> None:
    """Throughput on the CPUs that this process may use."""
    assert Settings(profile="throughput").engine_streams == min(cpus(), MAX_STREAMS)


class TestCpus:
    """Threads follow the CPU limit of the container, which the affinity doesn't show."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [("100000 100000", 1), ("50000 100000", 1), ("110000 100000", 2), ("nonsense", None)],
    )
    def test_cgroup_v2(self, tmp_path: Path, text: str, expected: int | None) -> None:
        """A part of a CPU counts as one; what can't be read is no limit."""
        (tmp_path / "cpu.max").write_text(text)
        allowed = len(os.sched_getaffinity(0))
        assert cpus(tmp_path) == min(expected or allowed, allowed)

    @pytest.mark.parametrize("text", ["max 100000", "6400000 100000"])
    def test_no_limit_below_the_affinity(self, tmp_path: Path, text: str) -> None:
        """Without a limit, or with a wide one, the affinity counts."""
        (tmp_path / "cpu.max").write_text(text)
        assert cpus(tmp_path) == len(os.sched_getaffinity(0))

    @pytest.mark.parametrize(("quota", "expected"), [("100000", 1), ("-1", None)])
    def test_cgroup_v1(self, tmp_path: Path, quota: str, expected: int | None) -> None:
        """The older files mean the same; -1 is no limit."""
        (tmp_path / "cpu").mkdir()
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
        (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
        allowed = len(os.sched_getaffinity(0))
        assert cpus(tmp_path) == min(expected or allowed, allowed)

    def test_no_cgroups(self, tmp_path: Path) -> None:
        """Where there are none, the affinity counts."""
        assert cpus(tmp_path) == len(os.sched_getaffinity(0))
