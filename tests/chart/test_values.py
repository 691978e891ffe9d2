"""The schema of the values: closed, described, and as the service's settings are."""

from __future__ import annotations

import copy
import json
import operator
from collections.abc import Iterator
from functools import reduce
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from service.settings import Settings, SettingsError, load, variable
from tests.support import chart_docs, charts
from tests.support.charts import CHART

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
CHECK = jsonschema.Draft7Validator(SCHEMA)
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
FREE = frozenset({"global", "extraVolumes[]"})
"""Objects that are whatever Kubernetes takes, beside the selectors and the like in `WHOLE`."""
WHOLE = frozenset(
    {
        "labelSelector",
        "namespaceSelector",
        "nodeAffinity",
        "podAffinity",
        "podAntiAffinity",
        "podSelector",
        "valueFrom",
    }
)
"""Keys of Kubernetes' own objects, which the schema leaves to Kubernetes."""


def objects(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Give every object that values may have, with where it is."""
    for part in node.get("allOf", ()):
        yield from objects(part, path)
    if "$ref" in node:
        steps = node["$ref"].removeprefix("#/").split("/")
        yield from objects(reduce(operator.getitem, steps, SCHEMA), path)
    if "object" in node.get("type", ()):
        yield path, node
    for name, child in node.get("properties", {}).items():
        yield from objects(child, f"{path}.{name}".lstrip("."))
    if "items" in node:
        yield from objects(node["items"], f"{path}[]")


OBJECTS = dict(objects(SCHEMA))
CLOSED = [path for path in OBJECTS if path not in FREE and path.rpartition(".")[2] not in WHOLE]


@pytest.mark.parametrize("path", CLOSED)
def test_every_object_is_closed(path: str) -> None:
    """It names its keys, or is a map whose values have a type."""
    rest = OBJECTS[path]["additionalProperties"]
    assert rest is False or "type" in rest


@pytest.mark.parametrize("path", OBJECTS)
def test_every_key_is_described(path: str) -> None:
    """By a sentence."""
    for name, child in OBJECTS[path].get("properties", {}).items():
        target = child if "description" in child else SCHEMA["definitions"]
        assert target.get("description", "").endswith("."), f"{path}.{name}"


def test_every_value_has_a_default_and_every_default_a_description() -> None:
    """Down to where the values are the user's own."""

    def compare(default: dict[str, Any], node: dict[str, Any], path: str) -> None:
        known = node["properties"].keys() - ({"global"} if not path else set())
        assert default.keys() == known, path
        for name, value in default.items():
            child = node["properties"][name]
            if value and isinstance(value, dict) and "properties" in child:
                compare(value, child, f"{path}.{name}")

    compare(DEFAULTS, SCHEMA, "")
    CHECK.validate(DEFAULTS)


def test_the_schema_is_a_schema() -> None:
    """Of the draft that both Helm 3 and Helm 4 read."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:  # noqa: ANN401
    """Give the path of every key in some values."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield (*path, key)
            yield from places(child, (*path, key))
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from places(child, (*path, number))


def misspelt(values: dict[str, Any], path: tuple[str | int, ...], key: str) -> dict[str, Any]:
    """Give the values with one key spelt otherwise."""
    changed = copy.deepcopy(values)
    where: Any = changed
    for step in path[:-1]:
        where = where[step]
    where[key] = where.pop(path[-1])
    return changed


def is_free(path: tuple[str | int, ...]) -> bool:
    """Whether a key is in a map or in an object of Kubernetes' own: any key is right there."""
    spelt = ""
    for step in path[:-1]:
        spelt = f"{spelt}[]" if isinstance(step, int) else f"{spelt}.{step}".lstrip(".")
        if spelt in FREE or spelt.rpartition(".")[2] in WHOLE:
            return True
    return OBJECTS[spelt]["additionalProperties"] is not False


KEYS = [
    (name, path)
    for name, values in {
        "values": DEFAULTS,
        **{n: charts.feature(n) for n in charts.features()},
    }.items()
    for path in places(values)
    if not is_free(path)
]


def test_there_are_keys_at_every_level() -> None:
    """From the top to a port in a rule in a list."""
    assert {len(path) for _, path in KEYS} >= {1, 2, 3, 4, 5}


@given(st.sampled_from(KEYS), st.data())
def test_a_misspelt_key_is_refused(
    found: tuple[str, tuple[str | int, ...]], data: st.DataObject
) -> None:
    """At each level of the defaults and of every feature: a letter less, more or exchanged."""
    name, path = found
    values = DEFAULTS if name == "values" else charts.feature(name)
    CHECK.validate(values)
    key = str(path[-1])
    at = data.draw(st.integers(0, len(key) - 1))
    letter = data.draw(st.sampled_from("abcxyzAZ_-"))
    spelling = data.draw(
        st.sampled_from(
            (
                key[:at] + key[at + 1 :],
                key[:at] + letter + key[at:],
                key[:at] + letter + key[at + 1 :],
            )
        )
    )
    known = OBJECTS[_parent(path)]["properties"]
    if spelling in known:
        return
    with pytest.raises(jsonschema.ValidationError):
        CHECK.validate(misspelt(values, path, spelling))


def _parent(path: tuple[str | int, ...]) -> str:
    spelt = ""
    for step in path[:-1]:
        spelt = f"{spelt}[]" if isinstance(step, int) else f"{spelt}.{step}".lstrip(".")
    return spelt


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"resource": {}}, "resource"),
        ({"image": {"tags": "1"}}, "tags"),
        ({"settings": {"deadline": 20}}, "deadline"),
        ({"bundle": {"s3": {"image": {"tags": "1"}}}}, "tags"),
        ({"networkPolicy": {"clients": [{"podselector": {}}]}}, "podselector"),
    ],
)
@pytest.mark.parametrize("helm", ["helm", "helm3"])
def test_helm_says_which_key_it_does_not_know(
    values: dict[str, Any], where: str, helm: str
) -> None:
    """Both of them use the schema."""
    assert where in charts.refusal(values, helm=helm)


@pytest.mark.parametrize(
    "values",
    [
        {"replicaCount": -1},
        {"replicaCount": 1.5},
        {"size": "huge"},
        {"drainSeconds": 601},
        {"image": {"digest": "sha256:0"}},
        {"image": {"tag": 1}},
        {"bundle": {"source": "ftp"}},
        {"bundle": {"registry": {"reference": "registry.example/a:1"}}},
        {"bundle": {"s3": {"url": "https://bucket.example/a"}}},
        {"bundle": {"pvc": {"path": "../etc"}}},
        {"tokens": {"values": ["too-short"]}},
        {"tokens": {"values": ["with a space in it, and long enough for all that"]}},
        {"httpRoute": {"hostnames": ["Timbre.example"]}},
        {"settings": {"deadline_s": 0}},
        {"settings": {"deadline_s": "20"}},
        {"settings": {"precision": "fp8"}},
        {"settings": {"bundle": "/elsewhere"}},
        {"autoscaling": {"demand": {"target": 0}}},
        {"podDisruptionBudget": {"maxUnavailable": 0}},
        {"networkPolicy": {"clients": [{}]}},
        {"monitoring": {"podMonitor": {"interval": "often"}}},
        {"canary": {"weight": -1}},
        {"canary": {"weight": 101}},
        {"canary": {"weight": 0.5}},
        {"canary": {"bundle": {"source": "ftp"}}},
        {"canary": {"settings": {"deadline_s": 0}}},
        {"canary": {"sticky": {"by": "address"}}},
        {"canary": {"sticky": {"name": "with space"}}},
        {"shadow": {"sample": 0}},
        {"shadow": {"sample": 1.01}},
        {"compare": {"golden": {"manifest": "../golden.json"}}},
        {"compare": {"goldenSeconds": 0}},
        {"compare": {"blockSeconds": 4}},
        {"compare": {"blockSeconds": 3601}},
        {"judge": {"everySeconds": 3601}},
        {"bundle": {"s3": {"image": {"tag": ""}}}},
        {"rollout": {"engine": "spinnaker"}},
    ],
    ids=json.dumps,
)
def test_a_value_out_of_range_is_refused(values: dict[str, Any]) -> None:
    """Of the wrong type, too large or small, or written otherwise."""
    with pytest.raises(jsonschema.ValidationError):
        CHECK.validate(values)


def test_settings_are_the_service_s() -> None:
    """All but those that the chart owns: names, types, bounds and words."""
    settings = SCHEMA["properties"]["settings"]["properties"]
    assert settings == chart_docs.settings()
    assert settings.keys() | chart_docs.OWNED == Settings.model_fields.keys()
    assert not settings.keys() & chart_docs.OWNED


@pytest.mark.parametrize("name", chart_docs.settings())
def test_a_setting_s_bounds_are_the_server_s(name: str) -> None:
    """Where the schema takes a value, the server does, and just outside neither does."""
    about = SCHEMA["properties"]["settings"]["properties"][name]
    default = Settings.model_fields[name].default
    tried: list[object] = [list(default) if isinstance(default, tuple) else default]
    tried += about.get("enum", [])
    for bound in ("minimum", "maximum", "exclusiveMinimum"):
        if bound in about:
            tried += [about[bound], about[bound] - 1, about[bound] + 1]
    taken = set()
    for value in tried:
        text = ",".join(value) if isinstance(value, list) else str(value)
        try:
            load({variable(name): text})
            by_server = True
        except SettingsError:
            by_server = False
        assert CHECK.is_valid({"settings": {name: value}}) is by_server, value
        taken.add(by_server)
    assert True in taken


@pytest.mark.parametrize("name", chart_docs.files())
def test_what_is_written_from_the_code_is_current(name: str) -> None:
    """If not: `python -m tests.support.chart_docs --write`, and read what has changed."""
    assert (CHART / name).read_text(encoding="utf-8") == chart_docs.files()[name]


def test_the_table_has_every_value() -> None:
    """Down to where they are the user's own, with the default of values.yaml."""
    table = chart_docs.files()["README.md"].partition(chart_docs.HEADING)[2]
    for row in (
        '| `bundle.s3.image.tag` | `"2.31.29"` | ',
        "| `replicaCount` | `1` | ",
        "| `settings` | `{}` | ",
        "| `topologySpreadConstraints` | see values.yaml | ",
    ):
        assert row in table
