"""docs/kubernetes.md says nothing that the chart, the Makefile or the other pages don't have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from service import __version__
from tests.support.charts import CHART, kinds, rendered

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "kubernetes.md"
TEXT = PAGE.read_text(encoding="utf-8")
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA: dict[str, Any] = yaml.safe_load((CHART / "values.schema.json").read_text(encoding="utf-8"))
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
KUBERNETES = "1.34.0"


def named() -> Iterator[str]:
    """Values that the text names, by the whole path of their keys."""
    for code in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", TEXT):
        path = re.match(r"[A-Za-z0-9_.]+(?=$|[=:] ?\S)", code)
        if path and path[0].split(".")[0] in VALUES:
            yield path[0]
    yield from re.findall(r"--set(?:-string)? ([\w.]+)=", TEXT)


def known(path: str) -> bool:
    """Whether the chart's schema has such a value."""
    within = SCHEMA
    for key in path.split("."):
        if key not in within.get("properties", {}):
            return False
        within = within["properties"][key]
    return True


@pytest.mark.parametrize("path", sorted(set(named())))
def test_a_value_that_is_named_is_the_chart_s(path: str) -> None:
    """By its whole path, as somebody would set it."""
    assert known(path)


def test_many_values_are_named() -> None:
    """Those that a platform engineer decides about; a wrong one is not known."""
    assert len(set(named())) > 40
    assert not known("autoscaling.replicas")
    assert not known("ingres.enabled")


@pytest.mark.parametrize(
    "block", BLOCKS, ids=[f"{number}-{block.split(':')[0]}" for number, block in enumerate(BLOCKS)]
)
def test_an_example_can_be_installed(block: str) -> None:
    """The chart takes it as it stands, and renders more or other objects than without it."""
    values = yaml.safe_load(block)
    assert rendered(values, kubernetes=KUBERNETES) != rendered(kubernetes=KUBERNETES)


def test_what_is_installed_is_what_the_table_says() -> None:
    """Every kind that the examples render is in the table, and the other way round."""
    found: set[str] = set()
    for block in [*BLOCKS, "tokens: {values: [0123456789abcdef0123456789abcdef]}"]:
        found |= kinds(rendered(yaml.safe_load(block), kubernetes=KUBERNETES))
    table = TEXT.split("## What is installed")[1].split("## ")[0]
    rows = re.findall(r"^\| ([\w ,]+) \|", table, re.MULTILINE)
    listed = {name.strip() for row in rows[1:] for name in row.split(",")}
    listed = {"NetworkPolicy" if name == "NetworkPolicies" else name for name in listed}
    assert listed - {"dashboard"} == found - {"Pod"}


def test_the_sizes_are_the_chart_s() -> None:
    """CPU in cores and memory in MiB or GiB, of each size."""
    table = TEXT.split("## Sizes and requests")[1].split("## ")[0]
    row = r"^\| `(\w+)`[^|]*\| ([\d.]+) \| ([\d.]+) \| (\d+) ([MG]i)B \|"
    rows = re.findall(row, table, re.MULTILINE)
    assert [row[0] for row in rows] == SCHEMA["properties"]["size"]["enum"]
    for size, asked, most, memory, unit in rows:
        [container] = next(
            manifest
            for manifest in rendered({"size": size}, kubernetes=KUBERNETES)
            if manifest["kind"] == "Deployment"
        )["spec"]["template"]["spec"]["containers"]
        resources = container["resources"]
        assert cores(resources["requests"]["cpu"]) == float(asked)
        assert cores(resources["limits"]["cpu"]) == float(most)
        assert {resources[kind]["memory"] for kind in resources} == {f"{memory}{unit}"}


def cores(quantity: str) -> float:
    """A quantity of CPU, in cores."""
    milli = quantity.endswith("m")
    return float(quantity.removesuffix("m")) / (1000 if milli else 1)


def test_public_paths_are_the_chart_s() -> None:
    """As the route has them."""
    sentence = re.search(r"^Only (.*) are public\.", TEXT, re.MULTILINE)
    assert sentence
    example = next(block for block in BLOCKS if block.startswith("httpRoute:"))
    [route] = [
        manifest
        for manifest in rendered(yaml.safe_load(example), kubernetes=KUBERNETES)
        if manifest["kind"] == "HTTPRoute"
    ]
    routed = [match["path"]["value"] for match in route["spec"]["rules"][0]["matches"]]
    assert re.findall(r"`([^`]+)`", sentence[1]) == routed


def test_its_commands_are_the_makefile_s() -> None:
    """Every target that it tells of."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    told = set(re.findall(r"(?:`|^ +)make ([a-z0-9-]+)", TEXT, re.MULTILINE))
    assert {"image", "kind-up", "deploy", "kind-down"} <= told <= targets


def test_its_versions_are_this_one() -> None:
    """Wherever it names a version of Timbre."""
    found = re.findall(r"(?:--version |timbre:|/v|=v)(\d+\.\d+\.\d+)", TEXT)
    assert len(found) > 3
    assert set(found) == {__version__}


@pytest.mark.parametrize("page", ["docs/kubernetes.md", "docs/canary.md", "helm/timbre/README.md"])
def test_helm_is_new_enough_for_what_it_is_told(page: str) -> None:
    """Helm 3 has `--reset-then-reuse-values` from 3.14 on, which upgrades and rollout.sh need."""
    assert re.search(r"3\.14 or newer", (ROOT / page).read_text(encoding="utf-8"))


def test_a_shell_takes_its_addresses_as_they_are() -> None:
    """A `?` is a pattern to it, and zsh refuses one that matches nothing."""
    commands = re.findall(r"^    .*\?ref=.*$", TEXT, re.MULTILINE)
    assert commands
    assert [command for command in commands if not re.search(r"'\S+\?ref=\S+'", command)] == []


@pytest.mark.parametrize("page", ["docs/kubernetes.md", "helm/timbre/README.md"])
def test_what_is_not_released_is_said(page: str) -> None:
    """Before the first command, which fails until then; a checkout does as well."""
    before, _, _ = (ROOT / page).read_text(encoding="utf-8").partition("\n    helm install")
    assert re.search(r"Until \d+\.\d+\.\d+ is released, install \[from a checkout\]", before)


@pytest.mark.parametrize("page", ["docs/kubernetes.md", "k8s/README.md"])
def test_its_links_lead_somewhere(page: str) -> None:
    """To files of the project, and to headings in them."""
    path = ROOT / page
    for link in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([\w-]+))?\)", path.read_text()):
        target = path.parent / link[0] if link[0] else path
        assert target.exists(), link[0]
        if link[1]:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", name).lower().replace(" ", "-") for name in headings}
            assert link[1] in slugs


def test_the_readme_leads_to_it() -> None:
    """For platform engineers."""
    assert "(docs/kubernetes.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_measured_figures_have_their_place() -> None:
    """Between two marks, once."""
    assert TEXT.count("<!-- figures: begin -->") == TEXT.count("<!-- figures: end -->") == 1
