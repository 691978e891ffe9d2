"""`timbre bundle`: look at a model, check it, and move it through an OCI registry."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.bundle import DEFAULT_BUNDLE, Bundle, GateFacts, open_bundle

_PIPE_WIDTH = 160
"""Columns when nobody looks: a digest fits in one line, so grep finds it."""

_folder = click.argument("folder", type=click.Path(path_type=Path), default=DEFAULT_BUNDLE)
_insecure = click.option("--insecure", is_flag=True, help="Speak plain http (a local registry).")
_digest = click.option(
    "--digest", metavar="SHA256", help="Take this very bundle only, as `show` prints its digest."
)


FURTHER = "timbre.bundle"
"""Entry points of commands that other packages add: what serves imports nothing of them."""


class _Group(click.Group):
    """Has the commands of this module and, found by their entry points, those of others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *sorted(_further())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in (further := _further()):
            return super().get_command(ctx, cmd_name)
        try:
            command: click.Command = further[cmd_name].load()
        except ModuleNotFoundError as error:
            return _unusable(cmd_name, str(error.name))
        return command


def _further() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=FURTHER)}


def _unusable(name: str, missing: str) -> click.Command:
    """Stand in for a command that cannot be loaded, so that help of the others still works."""

    def refuse() -> None:
        raise click.ClickException(
            f"`timbre bundle {name}` needs what trains ({missing} is missing): "
            "in a checkout of Timbre, pip install '.[train]'."
        )

    return click.Command(
        name,
        callback=refuse,
        short_help="Needs the extra `train`.",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )


@click.group(cls=_Group)
def bundle() -> None:
    """Show, verify, push and pull models, and reduce their precision.

    A bundle is a folder that holds one version of a model. `show` and `verify` take the one that
    is built in unless they are given a FOLDER. Registries are asked with the credentials of
    `docker login`.
    """


@bundle.command(short_help="Print what a bundle says about itself.")
@_folder
@click.option("--json", "as_json", is_flag=True, help="Print bundle.json and its digest as JSON.")
def show(folder: Path, *, as_json: bool) -> None:
    """Print what a bundle says about itself, once it is verified.

    \b
      timbre bundle show
      timbre bundle show ./model --json | jq .manifest.labels
    """  # noqa: D301
    opened = open_bundle(folder)
    if as_json:
        facts = {
            "folder": str(folder),
            "digest": opened.digest,
            "manifest": opened.manifest.model_dump(mode="json"),
        }
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    console.print(_table(opened))


@bundle.command(short_help="Check every file of a bundle.")
@_folder
@_digest
def verify(folder: Path, *, digest: str | None) -> None:
    """Check every file of a bundle; exit code 1 and the reason if one is not as it should be.

    \b
      timbre bundle verify ./model
      timbre bundle verify ./model --digest sha256:…
    """  # noqa: D301
    opened = open_bundle(folder, digest=digest)
    click.echo(f"OK {_title(opened)} {opened.digest} ({_extent(opened)})")


@bundle.command(short_help="Push a bundle to a registry.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("reference")
@_insecure
def push(folder: Path, reference: str, *, insecure: bool) -> None:
    """Verify the bundle in FOLDER, push it, and print its reference by digest.

    \b
      timbre bundle push ./model oci://registry.example/team/model:1.2.0
      timbre bundle push ./model oci://localhost:5000/model:dev --insecure
    """  # noqa: D301
    from service import registry  # noqa: PLC0415 (`show` and `verify` need no HTTP client)

    with Console(stderr=True).status("Pushing …"):
        where = registry.push(folder, reference, insecure=insecure)
    click.echo(str(where))


@bundle.command(short_help="Pull a bundle from a registry.")
@click.argument("reference")
@click.argument("folder", type=click.Path(path_type=Path))
@_insecure
@click.option("--force", is_flag=True, help="Replace the bundle that FOLDER holds.")
@_digest
def pull(reference: str, folder: Path, *, insecure: bool, force: bool, digest: str | None) -> None:
    """Pull a bundle into FOLDER, which appears whole and verified or not at all.

    \b
      timbre bundle pull oci://registry.example/team/model:1.2.0 ./model
      timbre bundle pull oci://registry.example/team/model@sha256:… ./model --force
    """  # noqa: D301
    from service import registry  # noqa: PLC0415

    with Console(stderr=True).status("Pulling …"):
        opened = registry.pull(reference, folder, insecure=insecure, force=force, digest=digest)
    click.echo(f"OK {_title(opened)} {opened.digest} ({_extent(opened)})")


def _title(opened: Bundle) -> str:
    return f"{opened.manifest.name} {opened.manifest.version}"


def _extent(opened: Bundle) -> str:
    files = opened.manifest.files
    return f"{len(files)} files, {sum(file.bytes for file in files.values()) / 1e6:.1f} MB"


def _told(gate: GateFacts | None) -> str:
    if gate is None:
        return "none: ungated, for speed work only"
    lost = gate.macro_f1_lost
    return (
        f"macro-F1 lost {100 * lost.value:.2f} points ({100 * lost.low:.2f} to "
        f"{100 * lost.high:.2f}), {100 * gate.agreement:.1f}% of {gate.clips} {gate.split} clips "
        f"keep their label, parity {gate.parity:g}"
    )


def _table(opened: Bundle) -> Table:
    facts, audio = opened.manifest, opened.manifest.audio
    rows = [
        ("name", facts.name),
        ("version", facts.version),
        ("kind", facts.kind),
        ("created", facts.created.isoformat(timespec="seconds")),
        ("licence", facts.licence),
        ("labels", ", ".join(facts.labels)),
        ("windows", f"{audio.window_s:g} s, every {audio.hop_s:g} s, at {audio.sample_rate} Hz"),
        ("prepared by", f"{audio.voice_activity}, {audio.normalisation}"),
    ]
    for precision, about in facts.precisions.items():
        rows += [
            (f"{precision} runtimes", ", ".join(about.runtimes)),
            (
                f"{precision} decision",
                f"accepts from {about.review_threshold:g}, temperature {about.temperature:g}",
            ),
        ]
        if precision != "fp32":
            rows.append((f"{precision} gate", _told(about.gate)))
        for measured, figures in about.metrics.items():
            shown = [
                f"{name} {figure:.4g}"
                for name, figure in figures.items()
                if isinstance(figure, int | float)
            ]
            rows.append((f"{precision} on {measured}", ", ".join(shown)))
    rows += [(f"data, {d.split}", f"{d.name}: {d.clips} clips, {d.licence}") for d in facts.data]
    rows += [("files", _extent(opened)), ("folder", str(opened.folder)), ("digest", opened.digest)]
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:  # Text: what a bundle says is never markup
        table.add_row(Text(name), Text(value))
    return table
