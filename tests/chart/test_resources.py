"""What pods ask for: that two fit an ordinary node, and that sizes are what they are called."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tests.support import charts
from tests.support.charts import Values, rendered, server
from tests.support.layers import merged
from tests.support.pod_security import containers

NODE = {"cpu": Fraction(7, 2), "memory": Fraction(6 * 2**30)}
"""What a node of 4 vCPU and 8 GiB has left for pods."""
SUFFIXES = {"m": Fraction(1, 1000), "Mi": Fraction(2**20), "Gi": Fraction(2**30)}


def amount(quantity: str) -> Fraction:
    """Read a quantity as Kubernetes writes it."""
    for suffix, factor in SUFFIXES.items():
        if quantity.endswith(suffix):
            return Fraction(quantity.removesuffix(suffix)) * factor
    return Fraction(quantity)


def requested(values: Values | None, resource: str, kind: str = "requests") -> Fraction:
    """Sum what a serving pod asks for; an init container counts where it asks for more."""
    pod = server(rendered(values))
    return max(
        sum((amount(one["resources"][kind][resource]) for one in pod["containers"]), Fraction(0)),
        *(amount(one["resources"][kind][resource]) for one in containers(pod)),
    )


@pytest.mark.parametrize("feature", charts.features())
def test_two_pods_fit_an_ordinary_node(feature: str) -> None:
    """So that a surge, a canary or a drain never waits for a node; large needs larger nodes."""
    pods = 1 if feature == "large" else 2
    for resource, there in NODE.items():
        assert pods * requested(charts.feature(feature), resource) <= there


@pytest.mark.parametrize("track", ["canary", "baseline"])
def test_a_pod_of_another_track_is_no_larger(track: str) -> None:
    """So that one of it fits beside one of stable's, as a second of those does."""
    manifests = rendered(charts.feature("canary"))
    stable = {one["name"]: one["resources"] for one in containers(server(manifests))}
    for one in containers(server(manifests, track)):
        assert one["resources"] == stable["timbre"]


def test_what_tests_and_judges_fits_beside_two_pods() -> None:
    """They run while an update does."""
    manifests = rendered(merged(charts.feature("compare"), {"judge": {"enabled": True}}))
    pods = charts.pods(manifests)
    small = [pods[name] for name in pods if not name.endswith(("timbre", "canary", "baseline"))]
    assert len(small) == 3
    for resource, there in NODE.items():
        asked = [
            amount(one["resources"]["requests"][resource])
            for pod in small
            for one in pod["spec"]["containers"]
        ]
        assert sum(asked) + 2 * requested(None, resource) <= there


@pytest.mark.parametrize("size", ["small", "medium", "large"])
def test_memory_is_kept_for_the_pod_that_may_take_it(size: str) -> None:
    """A pod that counts on what others leave is killed when they don't."""
    values = {"size": size}
    assert requested(values, "memory") == requested(values, "memory", "limits")


@pytest.mark.parametrize("size", ["small", "medium", "large"])
def test_threads_have_a_whole_cpu_each(size: str) -> None:
    """The server takes its threads from the CPU limit; of half a CPU it could take none."""
    assert requested({"size": size}, "cpu", "limits").denominator == 1


def test_sizes_rise() -> None:
    """In every figure."""
    for resource in NODE:
        for kind in ("requests", "limits"):
            small, medium, large = (
                requested({"size": size}, resource, kind) for size in ("small", "medium", "large")
            )
            assert small < medium < large


def test_resources_win_over_the_size() -> None:
    """For init containers as well."""
    values = charts.feature("bundle-registry") | charts.feature("resources")
    for one in containers(server(rendered(values))):
        assert one["resources"] == values["resources"]
