"""docs/canary.md says nothing that the chart, the script and the other pages don't have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.packaging.test_kubernetes_page import KUBERNETES, known
from tests.support.chart_docs import defaults
from tests.support.charts import rendered

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "canary.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
SCRIPT = (ROOT / "k8s/rollouts/helm/rollout.sh").read_text(encoding="utf-8")


def named() -> set[str]:
    """Values that the text names, by the whole path of their keys."""
    codes = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", TEXT)
    paths = [re.match(r"[A-Za-z_.]+(?=$|[=:] ?\S)", code) for code in codes]
    return {path[0] for path in paths if path and path[0].split(".")[0] in defaults()}


@pytest.mark.parametrize("path", sorted(named()))
def test_a_value_that_is_named_is_the_chart_s(path: str) -> None:
    """By its whole path."""
    assert known(path)


def test_values_are_named() -> None:
    """Those that a step is decided by among them."""
    assert {"canary.weight", "compare.waitSeconds", "shadow.sample"} <= named()


@pytest.mark.parametrize("block", BLOCKS, ids=[block.split(":")[0] for block in BLOCKS])
def test_an_example_can_be_installed(block: str) -> None:
    """As it stands."""
    assert rendered(yaml.safe_load(block), kubernetes=KUBERNETES)


def test_its_commands_and_exit_codes_are_the_script_s() -> None:
    """All of them, and the steps of a walk."""
    commands = re.findall(r"^\| `(\w+)(?: WEIGHT)?` \|", TEXT, re.MULTILINE)
    usage = re.search(r'^usage="rollout\.sh (.+) \[--', SCRIPT, re.MULTILINE)
    assert usage
    assert sorted(commands) == sorted(part.split()[0] for part in usage[1].split(" | "))
    steps = re.search(r"STEPS:-([\d ]+)", SCRIPT)
    assert steps
    told = re.search(r"steps of ([\d, and]+)%", TEXT)
    assert told
    assert re.findall(r"\d+", told[1]) == steps[1].split()
    codes = set(map(int, re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)))
    assert codes == {0, 1, 2, 3, 64}


@pytest.mark.parametrize(
    "variable",
    [
        *("STEPS", "READY_TIMEOUT", "RECOVER_TIMEOUT_S", "ROUTE_DRAIN_S", "PENDING_TIMEOUT_S"),
        *("RELEASE", "CHART"),
    ],
)
def test_a_variable_that_is_named_is_the_script_s(variable: str) -> None:
    """And the other way round."""
    assert f"`{variable}`" in TEXT
    assert f"${{{variable}:-" in SCRIPT


def test_its_links_lead_somewhere() -> None:
    """To files of the project, and to headings in them."""
    for file, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([\w-]+))?\)", TEXT):
        target = PAGE.parent / file if file else PAGE
        assert target.exists(), file
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", name).lower().replace(" ", "-") for name in headings}
            assert anchor in slugs


@pytest.mark.parametrize("page", ["README.md", "docs/kubernetes.md"])
def test_others_lead_to_it(page: str) -> None:
    """For who looks for how to bring a new model."""
    assert re.search(r"\]\((docs/)?canary\.md\)", (ROOT / page).read_text(encoding="utf-8"))


def test_the_measured_figures_have_their_place() -> None:
    """Between two marks, once."""
    assert TEXT.count("<!-- figures: begin -->") == TEXT.count("<!-- figures: end -->") == 1
