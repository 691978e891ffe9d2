"""Make torchaudio importable beside a CPU build of torch: `python -m training.repair`.

torchaudio's wheel declares no dependency, but its native libraries are linked to CUDA. Beside a
CPU-only torch `import torchaudio` fails, and with it every model class of transformers that hears.
Without those libraries all of torchaudio that is plain torch works: resampling, spectrograms,
filters, augmentation. What is lost is `forced_align`, `rnnt_loss` and the CUDA-only
`cuda_ctc_decoder`; nothing here uses them.

Installing torchaudio anew brings the libraries back, so run this after each install, as the
Makefile does. `pip check` stays silent, but `pip show --files` goes on listing the removed files.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

EVERYTHING = (
    "import torch, torchaudio, transformers\n"
    "from transformers import Wav2Vec2ForSequenceClassification"
)
"""transformers imports lazily: only a class that hears shows whether torchaudio broke it."""
WHERE = "from importlib.util import find_spec; print(find_spec('torchaudio').origin)"
LOST = "torchaudio.functional.forced_align and rnnt_loss"

_MISSING = re.compile(r"(\S+\.so\S*): cannot open shared object file")
_NOT_LOADED = re.compile(rf"Could not load this library|{_MISSING.pattern}")
TIMEOUT_S = 300
"""For one import; a first one, from a cold disk, has been seen to take half a minute."""


class RepairError(Exception):
    """It could not be repaired; the message says why."""


def main() -> int:
    """Repair this interpreter's torchaudio and say what was done; the exit status."""
    try:
        print(repair())
    except RepairError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def repair(python: Sequence[str] = (sys.executable,)) -> str:
    """Remove torchaudio's native libraries where they keep it from being imported.

    Imports run in processes of their own: a failed import of torch can't be undone in this one.

    Args:
        python: the command that starts the interpreter to repair.

    Returns:
        What was done, in a sentence or two.

    Raises:
        RepairError: torch, torchaudio and transformers don't work together, and this is not the
            cure. Everything is as it was.
    """
    if (fault := _failure(python, EVERYTHING)) is None:
        return "torch, torchaudio and transformers work together: nothing to repair."
    if reason := _failure(python, "import torch"):
        raise RepairError(f"torch itself cannot be imported: {_last_line(reason)}")
    if (reason := _failure(python, "import torch, torchaudio")) is None:
        raise RepairError(f"transformers fails, and not because of torchaudio: {_last_line(fault)}")
    if not _NOT_LOADED.search(reason):
        raise RepairError(
            f"torchaudio fails, and not because of a missing library: {_last_line(reason)}"
        )
    missing = _MISSING.search(reason)
    return _remove(
        python,
        _native_libraries(python),
        because=f"{missing[1]} is missing" if missing else "the linker refuses them",
    )


def _remove(python: Sequence[str], libraries: Sequence[Path], *, because: str) -> str:
    """Put the libraries aside, and delete them only when that was the cure."""
    folder = libraries[0].parent
    with tempfile.TemporaryDirectory() as aside:
        moved: list[Path] = []
        try:
            for library in libraries:
                shutil.move(library, aside)
                moved.append(library)
            still = _failure(python, EVERYTHING)
        except OSError as error:
            _put_back(moved, Path(aside))
            raise RepairError(f"torchaudio's libraries cannot be removed: {error}") from error
        if still:
            _put_back(moved, Path(aside))
            raise RepairError(
                "Without torchaudio's native libraries it fails too, so they are back in place: "
                f"{_last_line(still)}"
            )
    return (
        f"torchaudio's native libraries cannot load beside this torch ({because}): "
        f"removed {', '.join(path.name for path in libraries)} from {folder}. "
        f"torch, torchaudio and transformers now work together; only {LOST} are lost."
    )


def _put_back(libraries: Sequence[Path], aside: Path) -> None:
    for library in libraries:
        shutil.move(aside / library.name, library)


def _native_libraries(python: Sequence[str]) -> list[Path]:
    """The .so files in torchaudio's lib folder."""
    package = Path(_run(python, WHERE).stdout.strip()).parent
    libraries = sorted((package / "lib").glob("*.so"))
    if not libraries:
        raise RepairError(f"torchaudio misses a library, but has none of its own in {package}/lib.")
    return libraries


def _failure(python: Sequence[str], code: str) -> str | None:
    """Standard error of code that fails, or None when it runs."""
    result = _run(python, code)
    return None if result.returncode == 0 else result.stderr or f"exit {result.returncode}"


def _run(python: Sequence[str], code: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 (the interpreter is ours, the code a constant)
            [*python, "-c", code], capture_output=True, check=False, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise RepairError(f"{code!r} took more than {TIMEOUT_S} s.") from error


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


if __name__ == "__main__":
    sys.exit(main())
