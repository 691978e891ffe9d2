"""The repair of torchaudio, on stand-ins for it, torch and transformers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from training import repair as repair_module
from training.repair import RepairError, repair

PYTHON = (sys.executable, "-S")
"""Without site-packages, so that only the stand-ins are there to import."""

WORKS = ""
NEEDS_TORCHAUDIO = "import torchaudio\nclass Wav2Vec2ForSequenceClassification: pass\n"
# What torch.ops.load_library does, with the dynamic linker's own words.
NEEDS_CUDA = """
import pathlib
for library in sorted((pathlib.Path(__file__).parent / "lib").glob("*.so")):
    try:
        raise OSError("libc10_cuda.so: cannot open shared object file: No such file or directory")
    except OSError as error:
        raise OSError(f"Could not load this library: {library}") from error
"""
LIBRARIES = {"_torchaudio.abi3.so", "libtorchaudio.abi3.so"}


def install(site: Path, **packages: str) -> None:
    """Write packages with these sources as their __init__.py."""
    for name, source in packages.items():
        (site / name).mkdir()
        (site / name / "__init__.py").write_text(source)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An import path with a torchaudio folder that has native libraries, and nothing else."""
    lib = tmp_path / "torchaudio" / "lib"
    lib.mkdir(parents=True)
    for name in LIBRARIES:
        (lib / name).write_bytes(b"\x7fELF")
    (lib / "__init__.py").touch()
    (tmp_path / "torchaudio" / "other.so").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def write_torchaudio(site: Path, source: str) -> None:
    """Let `import torchaudio` run `source`."""
    (site / "torchaudio" / "__init__.py").write_text(source)


def native(site: Path) -> set[str]:
    """Names of torchaudio's libraries that are left."""
    return {path.name for path in (site / "torchaudio" / "lib").glob("*.so")}


def test_removes_exactly_the_libraries_that_cannot_load(site: Path) -> None:
    """Only torchaudio/lib/*.so goes, and the answer names what went and what is lost."""
    install(site, torch=WORKS, transformers=NEEDS_TORCHAUDIO)
    write_torchaudio(site, NEEDS_CUDA)

    said = repair(PYTHON)

    assert not native(site)
    assert (site / "torchaudio" / "lib" / "__init__.py").exists()
    assert (site / "torchaudio" / "other.so").exists()
    assert all(name in said for name in LIBRARIES)
    assert "libc10_cuda.so is missing" in said
    assert "forced_align and rnnt_loss are lost" in said


def test_a_second_run_has_nothing_to_do(site: Path) -> None:
    """Repairing what is repaired changes nothing and says so."""
    install(site, torch=WORKS, transformers=NEEDS_TORCHAUDIO)
    write_torchaudio(site, NEEDS_CUDA)
    repair(PYTHON)

    assert "nothing to repair" in repair(PYTHON)


def test_leaves_a_working_torchaudio_alone(site: Path) -> None:
    """Libraries that load are kept."""
    install(site, torch=WORKS, transformers=NEEDS_TORCHAUDIO)
    write_torchaudio(site, WORKS)

    assert "nothing to repair" in repair(PYTHON)
    assert native(site) == LIBRARIES


def test_without_torch_nothing_is_touched(site: Path) -> None:
    """A missing torch is named, and torchaudio stays as it is."""
    install(site, transformers=NEEDS_TORCHAUDIO)
    write_torchaudio(site, "import torch")

    with pytest.raises(RepairError, match=r"torch itself cannot be imported.*No module named"):
        repair(PYTHON)
    assert native(site) == LIBRARIES


def test_without_torchaudio_says_so(site: Path) -> None:
    """A torchaudio that is not installed is not taken for a broken one."""
    (site / "torchaudio").rename(site / "elsewhere")
    install(site, torch=WORKS, transformers=NEEDS_TORCHAUDIO)

    with pytest.raises(RepairError, match="No module named 'torchaudio'"):
        repair(PYTHON)


def test_another_fault_of_torchaudio_is_not_ours_to_repair(site: Path) -> None:
    """Only a library that is missing makes it remove anything."""
    install(site, torch=WORKS, transformers=NEEDS_TORCHAUDIO)
    write_torchaudio(site, "raise SyntaxError('half a download')")

    with pytest.raises(RepairError, match=r"not because of a missing library.*half a download"):
        repair(PYTHON)
    assert native(site) == LIBRARIES


def test_a_fault_of_transformers_is_not_blamed_on_torchaudio(site: Path) -> None:
    """A transformers that fails by itself is named, and torchaudio stays as it is."""
    install(site, torch=WORKS, transformers="import tokenizers")
    write_torchaudio(site, WORKS)

    with pytest.raises(RepairError, match=r"transformers fails.*No module named 'tokenizers'"):
        repair(PYTHON)
    assert native(site) == LIBRARIES


def test_libraries_come_back_when_their_removal_is_no_cure(site: Path) -> None:
    """What fails without them too is left exactly as it was found."""
    install(site, torch=WORKS, transformers=NEEDS_TORCHAUDIO)
    write_torchaudio(site, NEEDS_CUDA + "raise ImportError('and another thing')")

    with pytest.raises(RepairError, match="back in place: ImportError: and another thing"):
        repair(PYTHON)
    assert native(site) == LIBRARIES


def test_a_library_that_is_missing_elsewhere_is_reported(site: Path) -> None:
    """With no libraries of its own left there is nothing to remove."""
    install(site, torch=WORKS, transformers=NEEDS_TORCHAUDIO)
    write_torchaudio(site, "raise OSError('libx.so: cannot open shared object file')")
    for name in LIBRARIES:
        (site / "torchaudio" / "lib" / name).unlink()

    with pytest.raises(RepairError, match="has none of its own"):
        repair(PYTHON)


def test_an_installation_that_cannot_be_written_is_reported(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries moved before the failure are back afterwards."""
    install(site, torch=WORKS, transformers=NEEDS_TORCHAUDIO)
    write_torchaudio(site, NEEDS_CUDA)
    moves = iter(range(len(LIBRARIES)))
    real = shutil.move

    def move(source: Path, target: Path) -> object:
        if next(moves, 0) == 1:
            raise PermissionError(13, "Permission denied", str(source))
        return real(source, target)

    monkeypatch.setattr(shutil, "move", move)

    with pytest.raises(RepairError, match=r"cannot be removed.*Permission denied"):
        repair(PYTHON)
    assert native(site) == LIBRARIES


def test_an_import_that_hangs_is_reported(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting has an end."""
    install(site, torch="import time; time.sleep(60)")
    write_torchaudio(site, WORKS)
    monkeypatch.setattr(repair_module, "TIMEOUT_S", 0.5)

    with pytest.raises(RepairError, match="took more than"):
        repair(PYTHON)


def test_the_command_fails_with_one_sentence(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 1 and the reason on standard error; 0 and the answer on standard output."""
    install(site, torch="raise ImportError('no torch today')")
    write_torchaudio(site, WORKS)
    assert repair_module.main() == 1
    assert (
        capsys.readouterr().err == "torch itself cannot be imported: ImportError: no torch today\n"
    )

    monkeypatch.setattr(repair_module, "repair", lambda: "nothing to repair")
    assert repair_module.main() == 0
    assert capsys.readouterr().out == "nothing to repair\n"


def test_loads_neither_torch_nor_torchaudio_itself() -> None:
    """The process that repairs must not hold what it repairs."""
    code = "import sys, training.repair; sys.exit(bool({'torch', 'torchaudio'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
