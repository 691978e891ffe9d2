"""Remove from an environment what a list of globs names: `python slim.py LIST ENVIRONMENT`.

A glob that matches nothing is an error: libraries move their files, and an image that silently
grows is noticed by nobody. Those that begin with `?` may match nothing.
"""

import shutil
import sys
from pathlib import Path


def slim(globs: list[str], root: Path) -> int:
    """Remove what the globs match below `root`, and give the bytes that were freed.

    Raises:
        SystemExit: globs without a `?` that match nothing; they are all named.
    """
    freed, idle = 0, []
    for glob in globs:
        found = sorted(root.glob(glob.removeprefix("?")))
        if not found and not glob.startswith("?"):
            idle.append(glob)
        for path in found:
            if path.is_dir() and not path.is_symlink():
                freed += sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
                shutil.rmtree(path)
            elif path.is_symlink() or path.exists():  # else it went with its folder
                freed += path.lstat().st_size
                path.unlink()
    if idle:
        raise SystemExit("These match nothing any more; correct the list:\n  " + "\n  ".join(idle))
    return freed


if __name__ == "__main__":
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    wanted = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    print(f"removed {slim(wanted, Path(sys.argv[2])) / 1e6:.0f} MB")
