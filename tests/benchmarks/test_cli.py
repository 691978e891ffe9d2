"""The command line of the benchmarks."""

from __future__ import annotations

import subprocess
import sys


def test_the_help_does_not_wait_for_torch() -> None:
    """In a process of its own, since this one may have loaded it."""
    code = (
        "import sys; from click.testing import CliRunner; from benchmarks.__main__ import main\n"
        "shown = CliRunner().invoke(main, ['--help'])\n"
        "sys.exit(shown.exit_code or bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
