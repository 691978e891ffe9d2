"""A project on a machine whose kind, kubectl and so on only write down what they are asked."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
KIND = ROOT / "k8s" / "kind"
NEEDED = ("docker", "kind", "kubectl", "helm")
ORDINARY = ["bash", "cat", "cksum", "dirname", "expand", "grep", "make", "mkdir", "sed", "sh", "tr"]
"""What make and the script use of an ordinary machine."""
STAND_IN = """\
#!/bin/sh
printf '%s%s\\n' "${0##*/}${KIND_EXPERIMENTAL_PROVIDER:+ by $KIND_EXPERIMENTAL_PROVIDER}" \
    "$(printf ' %s' "$@")" >>"$ASKED"
[ "${0##*/} $1" != "kind get" ] || cat "$CLUSTERS"
[ "${0##*/} $1" != "$BROKEN info" ]
"""
BUILD = """\
#!/bin/sh
echo "build ${IMAGE:-nothing} ${1##*/}" >>"$ASKED"
echo "${LAYERS:-one}" >"$1"
"""


class Laptop:
    """A project with programs that only write down what they were asked."""

    def __init__(self, folder: Path, programs: Sequence[str] = NEEDED) -> None:
        self.root = folder / "project"
        self.path = folder / "bin"
        self.asked = folder / "asked"
        self.clusters = folder / "clusters"
        self.asked.touch()
        self.clusters.touch()
        shutil.copytree(KIND, self.root / "k8s" / "kind")
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(ROOT / name, self.root / name)
        self.write("service/__init__.py", '__version__ = "1.2.3"\n')
        self.write("k8s/image/build.sh", BUILD, 0o755)
        self.path.mkdir()
        for name in ORDINARY:
            (self.path / name).symlink_to(str(shutil.which(name)))
        for name in programs:
            self.write(self.path / name, STAND_IN, 0o755)

    def write(self, name: str | Path, content: str, mode: int = 0o644) -> None:
        """Put a file into the project, or by a whole path elsewhere."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        path.chmod(mode)

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the project, with these programs and no others."""
        known = {"ASKED": self.asked, "CLUSTERS": self.clusters, "PATH": self.path, "BROKEN": ""}
        environment = {name: str(value) for name, value in known.items()} | variables
        return subprocess.run(
            command,
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def do(self, action: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the script, which has to end well."""
        done = self.run("k8s/kind/cluster.sh", action, **variables)
        assert done.returncode == 0, done.stderr
        return done

    def log(self, *programs: str) -> list[str]:
        """What was asked of these programs, in order; of all of them where none is named."""
        lines = self.asked.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if not programs or line.split()[0] in programs]
