"""What a release says of itself: `python -m tests.support.release check|notes VERSION`.

A release is a tag, and the same version is written in four files and is a section of the changelog.
`check` names what disagrees before anything is published; `notes` prints that section, which GitHub
shows. Standard library only: the workflow runs it before anything is installed.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHANGELOG = "CHANGELOG.md"
WRITTEN = {
    "service/__init__.py": r'^__version__ = "(.+)"$',
    "helm/timbre/Chart.yaml": r"^version: (\S+)$",
    "k8s/training/kustomization.yaml": r"^ +newTag: (\S+)$",
}
"""Files that have the version, and the line that has it."""
APP_VERSION = r"^appVersion: (\S+)$"
"""The chart's other version, which is the image's tag."""


def section(changelog: str, version: str) -> str:
    """Give what the changelog says under a version's heading, without the heading.

    Raises:
        ValueError: there is no such heading, or nothing below it.
    """
    heading = rf"^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## |^\[[^\]]+\]: |\Z)"
    found = re.search(heading, changelog, re.DOTALL | re.MULTILINE)
    if found is None or not found[1].strip():
        message = (
            f"{CHANGELOG} says nothing of {version}: "
            f"give what is Unreleased the heading `## [{version}] - YYYY-MM-DD`."
        )
        raise ValueError(message)
    return found[1].strip() + "\n"


def disagreements(root: Path, version: str) -> Iterator[str]:
    """Name what has to be changed before a version can be released, a sentence each."""
    for name, pattern in [*WRITTEN.items(), ("helm/timbre/Chart.yaml", APP_VERSION)]:
        found = re.search(pattern, (root / name).read_text(encoding="utf-8"), re.MULTILINE)
        written = found[1].strip('"') if found else "none"
        if written != version:
            yield f"{name} has version {written}, and the tag says {version}."
    try:
        section((root / CHANGELOG).read_text(encoding="utf-8"), version)
    except ValueError as error:
        yield str(error)


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Print the notes, or what disagrees; the exit status is 1 where something does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["check", "notes"])
    parser.add_argument("version", help="with or without the v of its tag")
    given = parser.parse_args(arguments)
    version = given.version.removeprefix("v")
    wrong = list(disagreements(root, version))
    for sentence in wrong:
        print(sentence, file=sys.stderr)  # noqa: T201
    if given.action == "notes" and not wrong:
        print(section((root / CHANGELOG).read_text(encoding="utf-8"), version), end="")  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
