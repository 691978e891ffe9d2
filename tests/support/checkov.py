"""checkov on everything that the chart renders: `python -m tests.support.checkov CHECKOV`.

CHECKOV is the program, which lives in an environment of its own (`make checkov`): it has more
dependencies than the rest of the project, and holds back those that both have.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support import charts

CONFIG = Path(__file__).parents[1] / "chart" / "checkov.yaml"
"""What is skipped, each with its reason."""


def main() -> None:
    """Render every feature and check it; exits with checkov's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkov", type=Path)
    checkov = parser.parse_args().checkov
    with tempfile.TemporaryDirectory() as folder:
        for name in charts.features():
            Path(folder, f"{name}.yaml").write_text(
                charts.text(charts.feature(name)), encoding="utf-8"
            )
        command = [str(checkov), "--config-file", str(CONFIG), "--directory", folder]
        sys.exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
