"""Parts of the chart that are written from others: `python -m tests.support.chart_docs --write`.

The settings in values.schema.json are those of service/settings.py, and the table in the chart's
README is the schema with the defaults of values.yaml. Without --write it says whether they are
current, and tests hold the committed files against it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from service.settings import Settings
from tests.support.charts import CHART

OWNED = frozenset(
    {
        "bundle",
        "cache",
        "drain_s",
        "fallback_bundle",
        "internal_host",
        "internal_port",
        "shadow_sample",
        "shadow_urls",
        "token_file",
        "track",
    }
)
"""Settings that values cannot set: the chart does, or the image, or they are paths in the pod."""
HEADING = "## Values\n\n"
SCHEMA, README = CHART / "values.schema.json", CHART / "README.md"
WIDTH = 120
_LONG = 40
"""Characters of a default from which on the table leaves it to values.yaml."""

Json = dict[str, Any]


def files() -> dict[str, str]:
    """What the files should hold, by their names."""
    written = schema()
    return {
        SCHEMA.name: f"{compact(written)}\n",
        README.name: README.read_text(encoding="utf-8").partition(HEADING)[0]
        + HEADING
        + _table(written, defaults()),
    }


def defaults() -> Json:
    """What values.yaml says."""
    found: Json = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    return found


def schema() -> Json:
    """Give the schema with the settings as they are in the code."""
    found: Json = json.loads(SCHEMA.read_text(encoding="utf-8"))
    found["properties"]["settings"]["properties"] = settings()
    return found


def settings() -> Json:
    """Give a schema for each setting that values can set."""
    return {
        name: _setting(field)
        for name, field in Settings.model_json_schema()["properties"].items()
        if name not in OWNED
    }


def _setting(field: Json) -> Json:
    """Write pydantic's schema of a field as the chart has it: the default is said, not set."""
    default = json.dumps(field["default"])
    told = " ".join(field["description"].split())
    rest = {key: field[key] for key in field if key not in {"default", "description", "title"}}
    return {"description": f"{told} Default: {default}.", **rest}


def compact(value: object, indent: int = 0, key: str = "") -> str:
    """Write JSON with whatever fits into a line in one line, as people do."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, Mapping | list) or len(line) + indent + len(key) < WIDTH:
        return line
    pad = " " * (indent + 2)
    if isinstance(value, list):
        parts = [compact(item, indent + 2) for item in value]
        left, right = "[", "]"
    else:
        names = [f"{json.dumps(name, ensure_ascii=False)}: " for name in value]
        parts = [
            name + compact(item, indent + 2, name)
            for name, item in zip(names, value.values(), strict=True)
        ]
        left, right = "{", "}"
    lines = ",\n".join(pad + part for part in parts)
    return f"{left}\n{lines}\n{' ' * indent}{right}"


def _table(written: Json, values: Json) -> str:
    rows = ["| key | default | meaning |", "| --- | --- | --- |", *_rows(written, values)]
    return "".join(f"{row}\n" for row in rows)


def _rows(written: Json, values: Json, prefix: str = "") -> Iterator[str]:
    """Give a row for each value that has a default, in the order of values.yaml."""
    for name, default in values.items():
        about = written["properties"][name]
        key = f"{prefix}{name}"
        if default and isinstance(default, Mapping) and "properties" in about:
            yield from _rows(about, {**default}, f"{key}.")
            continue
        told = json.dumps(default, ensure_ascii=False)
        shown = f"`{told}`" if len(told) < _LONG else "see values.yaml"
        meaning = about["description"].replace("|", "\\|")
        if "enum" in about:
            meaning += f" One of {', '.join(f'`{one}`' for one in about['enum'])}."
        yield f"| `{key}` | {shown} | {meaning} |"


def main() -> None:
    """Say whether the files are current, or write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write them")
    write = parser.parse_args().write
    old = [name for name, text in files().items() if (CHART / name).read_text("utf-8") != text]
    for name in old:
        if write:
            (CHART / name).write_text(files()[name], encoding="utf-8")
    if old and not write:
        sys.exit(f"Not current: {', '.join(old)}. Write them with --write.")


if __name__ == "__main__":
    main()
