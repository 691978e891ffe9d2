"""What build.sh asks of the program that builds, with scripts standing in for it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EPOCH = 1_700_000_000
"""Time of the one commit."""
STAND_IN = """#!/bin/sh
case "$*" in
    info) exit {status} ;;
    *) echo "{name} $* DOCKER_BUILDKIT=$DOCKER_BUILDKIT SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH" ;;
esac >>"{log}"
"""


@dataclass
class Checkout:
    """A checkout with one commit, and the programs that are on PATH beside the system's."""

    root: Path

    @property
    def log(self) -> list[str]:
        """What they were asked for, but for whether they run."""
        return (self.root / "log").read_text(encoding="utf-8").splitlines()

    @property
    def revision(self) -> str:
        """The commit."""
        return self.git("rev-parse", "HEAD").strip()

    def git(self, *arguments: str) -> str:
        """Run git there, as somebody."""
        somebody = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.com"]
        time = f"{EPOCH} +0000"
        return subprocess.run(
            ["git", "-C", str(self.root), *somebody, *arguments],  # noqa: S607
            env={**os.environ, "GIT_AUTHOR_DATE": time, "GIT_COMMITTER_DATE": time},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def has(self, name: str, *, broken: bool = False) -> None:
        """Install an engine."""
        program = self.root / "bin" / name
        program.write_text(
            STAND_IN.format(name=name, status=int(broken), log=self.root / "log"), encoding="utf-8"
        )
        program.chmod(0o755)

    def build(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the script with no engine but those that were installed here."""
        return subprocess.run(
            [self.root / "k8s/image/build.sh", *arguments],
            env={"PATH": str(self.root / "bin"), **variables},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """With what the script reads, and a context that is made in no time."""
    made = Checkout(tmp_path)
    for folder in ("bin", "k8s/image", "service/default_bundle"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("build.sh", "Containerfile"):
        shutil.copy(ROOT / "k8s/image" / file, tmp_path / "k8s/image")
    context = tmp_path / "k8s/image/context.sh"
    context.write_text(
        '#!/bin/sh\nmkdir -p "$1" && cp "${0%/*}/Containerfile" "$1/"\n', encoding="utf-8"
    )
    context.chmod(0o755)
    (tmp_path / "service/__init__.py").write_text('__version__ = "1.2.3"\n', encoding="utf-8")
    (tmp_path / "service/default_bundle/bundle.json").write_text("{}", encoding="utf-8")
    for needed in ("bash", "sh", "cp", "cut", "dirname", "git", "mkdir", "rm", "sed", "sha256sum"):
        program = shutil.which(needed)
        assert program is not None
        (tmp_path / "bin" / needed).symlink_to(program)
    made.git("init", "--quiet")
    made.git("add", "service")
    made.git("commit", "--quiet", "--message", "One")
    return made


@pytest.mark.parametrize("engine", ["docker", "podman", "buildah"])
def test_each_is_told_the_commit_s_time(checkout: Checkout, engine: str) -> None:
    """And what the labels say; the tags name version and commit."""
    checkout.has(engine)
    done = checkout.build()
    assert done.returncode == 0, done.stderr
    [built] = checkout.log
    assert built.startswith(f"{engine} build ")
    assert f"SOURCE_DATE_EPOCH={EPOCH}" in built
    assert (f"--timestamp {EPOCH}" in built) == (engine != "docker")
    assert ("DOCKER_BUILDKIT=1" in built) == (engine == "docker")
    tags = ["timbre:1.2.3", f"timbre:1.2.3-{checkout.revision[:12]}"]
    assert re.findall(r"--tag (\S+)", built) == tags
    assert done.stdout.split() == tags
    told = dict(re.findall(r"--build-arg (\w+)=(\S+)", built))
    assert told.keys() == {"VERSION", "REVISION", "BUNDLE_DIGEST"}
    assert told["REVISION"] == checkout.revision


@pytest.mark.parametrize("engine", ["podman", "buildah"])
def test_no_label_of_an_earlier_build_is_taken(checkout: Checkout, engine: str) -> None:
    """Layers are found by what stands in the file, whatever the arguments' values are."""
    checkout.has(engine)
    checkout.build()
    built = (checkout.root / "build/image/Containerfile").read_text(encoding="utf-8")
    assert f'org.opencontainers.image.revision="{checkout.revision}"' in built


def test_the_first_that_runs_is_taken(checkout: Checkout) -> None:
    """A docker whose daemon doesn't is none."""
    checkout.has("docker", broken=True)
    checkout.has("podman")
    checkout.has("buildah")
    checkout.build()
    assert [line.split()[0] for line in checkout.log] == ["podman"]


def test_without_any_it_says_what_is_needed(checkout: Checkout) -> None:
    """In one sentence."""
    checkout.has("docker", broken=True)
    done = checkout.build()
    assert done.returncode == 1
    assert done.stderr == "An image needs docker, podman or buildah, and none of them runs here.\n"


@pytest.mark.parametrize(
    ("engine", "kept"),
    [("docker", "save --output"), ("podman", "save --format docker-archive"), ("buildah", "push")],
)
def test_an_archive_is_kept(checkout: Checkout, engine: str, kept: str) -> None:
    """Docker's, whichever builds; here of the tools."""
    checkout.has(engine)
    done = checkout.build("image.tar", TARGET="tools", IMAGE="mine", BASE_IMAGE="base:1")
    assert done.stdout.splitlines()[0] == "image.tar"
    built, saved = checkout.log
    assert "--target tools" in built
    assert "--build-arg BASE=base:1" in built
    assert saved.startswith(f"{engine} {kept}")
    assert "mine-tools:1.2.3" in saved
