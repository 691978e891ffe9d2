"""Files of tokens: written in place, and as Kubernetes mounts and changes them."""

from __future__ import annotations

from pathlib import Path

from service.access import MIN_TOKEN_CHARS

FIRST = "first".ljust(MIN_TOKEN_CHARS, "1")
SECOND = "second".ljust(MIN_TOKEN_CHARS, "2")
UNKNOWN = "unknown".ljust(MIN_TOKEN_CHARS, "0")


def bearer(token: str) -> dict[str, str]:
    """Give the header that carries a token."""
    return {"authorization": f"Bearer {token}"}


def token_file(folder: Path, *tokens: str) -> Path:
    """Write tokens into a new file of a folder."""
    file = folder / "tokens"
    file.write_text("".join(f"{token}\n" for token in tokens))
    return file


class Secret:
    """A mounted Secret: `tokens` is a link to `..data/tokens`, and `..data` to a folder.

    A change makes a new folder, and swaps the link `..data` for one to it, in one step.
    """

    def __init__(self, mount: Path, *tokens: str) -> None:
        self._mount = mount
        self._versions = 0
        self.file = mount / "tokens"
        self.file.symlink_to(Path("..data", "tokens"))
        self.change(*tokens)

    def change(self, *tokens: str) -> None:
        """Put these in the place of those before."""
        self._versions += 1
        folder = self._mount / f"..{self._versions}"
        folder.mkdir()
        token_file(folder, *tokens)
        link = self._mount / "..data_tmp"
        link.symlink_to(folder.name)
        link.rename(self._mount / "..data")
        for old in self._mount.glob(f"..{self._versions - 1}/tokens"):
            old.unlink()
