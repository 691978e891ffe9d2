"""The peers' environment: a venv of its own, made by pip from pinned requirements, and kept."""

from __future__ import annotations

import hashlib
import json
import subprocess
import venv
from collections.abc import Callable
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
STAMP = "requirements.sha256"
ROOT = Path(__file__).parents[2]
"""Where the peers' interpreter finds `benchmarks`."""


def interpreter(folder: Path, say: Callable[[str], object]) -> Path:
    """Make the environment in `folder`, unless it is there and of these requirements.

    Returns:
        Its Python.

    Raises:
        subprocess.CalledProcessError: pip could not install them; its own words are on stderr.
    """
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    python, stamp = folder / "bin" / "python", folder / STAMP
    if stamp.is_file() and stamp.read_text() == digest and python.exists():
        return python
    say(f"making the peers' environment in {folder} (about 1.5 GB, once)")
    venv.create(folder, clear=True, with_pip=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--requirement", str(REQUIREMENTS)], check=True)  # noqa: S603 - our own list
    stamp.write_text(digest)
    return python


def packages(python: Path) -> dict[str, str]:
    """Versions of everything an interpreter has, by name in lower case."""
    listed = subprocess.run(  # noqa: S603 - pip, of an environment of ours
        [python, "-m", "pip", "--disable-pip-version-check", "list", "--format", "json"],
        check=True,
        capture_output=True,
        text=True,
    )
    return {entry["name"].lower(): entry["version"] for entry in json.loads(listed.stdout)}
