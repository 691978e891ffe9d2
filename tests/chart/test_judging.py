"""The comparison of versions, as a Job after an upgrade and as a server that engines ask."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import charts
from tests.support.charts import NAMESPACE, RELEASE, Manifest, Values, kinds, one, rendered
from tests.support.layers import merged

JOB, JUDGE = f"{RELEASE}-compare", f"{RELEASE}-judge"


def job(feature: str = "compare") -> Manifest:
    """Give the Job's specification."""
    found: Manifest = one(rendered(charts.feature(feature)), "Job", JOB)["spec"]
    return found


def container(spec: Manifest) -> dict[str, Any]:
    """Give the one container of what a specification makes."""
    [found] = spec["template"]["spec"]["containers"]
    return dict(found)


def judge(feature: str = "judge") -> dict[str, Any]:
    """Give the judge's container."""
    return container(one(rendered(charts.feature(feature)), "Deployment", JUDGE)["spec"])


def options(arguments: list[str]) -> dict[str, str]:
    """Give the options of a command line."""
    pairs = [each.removeprefix("--").partition("=") for each in arguments if each[:2] == "--"]
    return {name: value for name, _, value in pairs}


def test_a_comparison_is_the_last_part_of_an_upgrade() -> None:
    """One try; a failed Job stays for its log until the next upgrade, or for a day."""
    metadata = one(rendered(charts.feature("compare")), "Job", JOB)["metadata"]
    assert metadata["annotations"] == {
        "helm.sh/hook": "post-upgrade",
        "helm.sh/hook-delete-policy": "before-hook-creation",
    }
    assert job()["backoffLimit"] == 0
    assert job()["ttlSecondsAfterFinished"] == 86_400
    assert job()["template"]["spec"]["restartPolicy"] == "Never"


def test_it_is_ended_some_time_after_it_should_have_ended_itself() -> None:
    """What it waits, and what the golden set takes."""
    values = charts.feature("compare")["compare"]
    assert job()["activeDeadlineSeconds"] == values["waitSeconds"] + 900


@pytest.mark.parametrize(
    "off", [{"compare": {"enabled": False}}, {"canary": {"enabled": False}}], ids=str
)
def test_there_is_none_without_a_canary_or_where_nobody_wants_it(off: Values) -> None:
    """Then an upgrade is an upgrade."""
    assert "Job" not in kinds(rendered(merged(charts.feature("compare"), off)))


def test_it_is_told_what_to_compare() -> None:
    """The release, its weight, and where figures are."""
    assert container(job())["command"] == ["timbre", "compare"]
    assert options(container(job())["args"]) == {
        "namespace": NAMESPACE,
        "name": RELEASE,
        "weight": "1",
        "block": "60",
        "prometheus": "http://prometheus.monitoring:9090",
        "policy": "/policy/policy.toml",
        "wait": "600",
    }


def test_the_golden_set_is_asked_before_clients_are() -> None:
    """By both Services, at 0%: later its clips would make the canary slower than the baseline."""
    asked = {
        "golden": "/golden/speech/golden.json",
        "stable-url": f"http://{RELEASE}:80",
        "candidate-url": f"http://{RELEASE}-canary:80",
    }
    at_none = merged(charts.feature("compare"), {"canary": {"weight": 0}})
    manifest = one(rendered(at_none), "Job", JOB)["spec"]
    assert asked.items() <= options(container(manifest)["args"]).items()
    assert not asked.keys() & options(container(job())["args"]).keys()


def test_the_policy_is_the_values() -> None:
    """As they are written."""
    manifests = rendered(charts.feature("compare"))
    policy = one(manifests, "ConfigMap", f"{RELEASE}-policy")["data"]["policy.toml"]
    assert policy.strip() == charts.feature("compare")["compare"]["policy"].strip()


@pytest.mark.parametrize(
    ("feature", "source"),
    [
        ("compare", {"persistentVolumeClaim": {"claimName": "golden", "readOnly": True}}),
        (
            "compare-volume",
            {
                "image": {
                    "reference": "registry.example/team/golden:1",
                    "pullPolicy": "IfNotPresent",
                }
            },
        ),
    ],
)
def test_the_golden_set_is_only_read(feature: str, source: dict[str, Any]) -> None:
    """From a claim or an image."""
    volumes = job(feature)["template"]["spec"]["volumes"]
    assert {"name": "golden", **source} in volumes
    mount = {"name": "golden", "mountPath": "/golden", "readOnly": True}
    assert mount in container(job(feature))["volumeMounts"]


def test_where_clients_need_a_token_the_golden_set_has_one() -> None:
    """By a file, which is as the Secret is even after tokens were changed."""
    values = merged(charts.feature("compare-volume"), {"canary": {"weight": 0}})
    found = container(one(rendered(values), "Job", JOB)["spec"])
    assert {"name": "tokens", "mountPath": "/tokens", "readOnly": True} in found["volumeMounts"]
    assert options(found["args"])["token-file"] == "/tokens/tokens"
    open_to_all = merged(values, {"tokens": {"existingSecret": "", "values": []}})
    found = container(one(rendered(open_to_all), "Job", JOB)["spec"])
    assert "token-file" not in options(found["args"])


def test_the_image_is_that_of_the_tools() -> None:
    """Of the chart's version, or by a digest."""
    assert container(job())["image"].startswith("ghcr.io/timbre-audio/timbre-tools:")
    digest = charts.feature("compare-volume")["compare"]["image"]["digest"]
    assert container(job("compare-volume"))["image"].endswith(f"@{digest}")


def test_the_judge_is_off_by_default() -> None:
    """Whatever else there is."""
    for feature in ("default", "compare", "canary"):
        names = [each["metadata"]["name"] for each in rendered(charts.feature(feature))]
        assert JUDGE not in names


def test_the_judge_looks_at_what_the_job_looks_at() -> None:
    """Again and again, instead of waiting."""
    values = merged(
        charts.feature("compare"), {"judge": {"enabled": True}, "canary": {"weight": 0}}
    )
    by_job = options(container(one(rendered(values), "Job", JOB)["spec"])["args"])
    found = container(one(rendered(values), "Deployment", JUDGE)["spec"])
    assert found["command"] == ["timbre", "judge"]
    of_judge = options(found["args"])
    assert {name: of_judge.pop(name) for name in ("host", "port", "every")} == {
        "host": "0.0.0.0",  # noqa: S104
        "port": "3002",
        "every": "30",
    }
    by_job.pop("wait")
    assert of_judge == by_job


def test_the_judge_asks_nobody_where_clients_are() -> None:
    """A set that is sent again and again would make the canary slower than the baseline."""
    values = merged(charts.feature("compare"), {"judge": {"enabled": True}})
    found = container(one(rendered(values), "Deployment", JUDGE)["spec"])
    assert "golden" not in options(found["args"])
    found = container(
        one(rendered(merged(values, {"canary": {"weight": 0}})), "Deployment", JUDGE)["spec"]
    )
    assert "golden" in options(found["args"])


def test_the_judge_is_reached_by_its_service() -> None:
    """On one port, by what selects its pods alone."""
    manifests = rendered(charts.feature("judge"))
    service = one(manifests, "Service", JUDGE)["spec"]
    [port] = service["ports"]
    assert (port["port"], port["targetPort"]) == (3002, "judge")
    assert judge()["ports"] == [{"name": "judge", "containerPort": 3002}]
    pods = charts.pods(manifests)
    wanted = service["selector"].items()
    chosen = [name for name, pod in pods.items() if wanted <= pod["metadata"]["labels"].items()]
    assert chosen == [f"Deployment/{JUDGE}"]


def test_the_judge_is_asked_whether_it_is_well() -> None:
    """It is ready once there is a verdict, which a golden set keeps waiting."""
    assert judge()["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "judge"}
    assert judge()["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "judge"}


def test_prometheus_finds_the_judge() -> None:
    """By annotations of its pod, and by a PodMonitor of its own."""
    manifests = rendered(charts.feature("judge"))
    template = one(manifests, "Deployment", JUDGE)["spec"]["template"]
    annotations = template["metadata"]["annotations"]
    scraped = {name: annotations[f"prometheus.io/{name}"] for name in ("scrape", "port", "path")}
    assert scraped == {"scrape": "true", "port": "3002", "path": "/metrics"}
    monitor = one(manifests, "PodMonitor", JUDGE)["spec"]
    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert monitor["podMetricsEndpoints"][0]["port"] == "judge"


def test_another_policy_starts_the_judge_anew() -> None:
    """It reads the file once."""

    def age(policy: str) -> str:
        values = merged(charts.feature("judge"), {"compare": {"policy": policy}})
        template = one(rendered(values), "Deployment", JUDGE)["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/policy"])

    assert age("a = 1") != age("a = 2")
