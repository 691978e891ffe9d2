"""`timbre serve`: check what can be wrong, then become BentoML's server.

Become, not start: the process that was told to serve is the one that signals reach, whose exit code
is read and whose output is logged, with nothing of ours in between.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from pathlib import Path

import click

import service
from service import settings as configuration
from service.startup import verify

_BUNDLE = configuration.variable("bundle")
_INTERNAL_HOST = configuration.variable("internal_host")
_INTERNAL_PORT = configuration.variable("internal_port")


def _address(_: click.Context, __: click.Parameter, value: str) -> str:
    """Take an IP address, all that BentoML takes, or the one name everybody types."""
    if value == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is not an IP address, such as 127.0.0.1 or 0.0.0.0."
        ) from None


@click.command()
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    callback=_address,
    help="Address to listen on; 0.0.0.0 for every interface, as in a container.",
)
@click.option(
    "--port", type=click.IntRange(1, 65_535), default=3000, show_default=True, help="Port."
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    help=f"Folder of the model to serve; before {_BUNDLE}, and the built-in one.",
)
def serve(host: str, port: int, bundle: Path | None) -> None:
    """Serve a model over HTTP, until Ctrl-C or SIGTERM.

    \b
      timbre serve
      timbre serve --host 0.0.0.0 --port 8080 --bundle ./model
      curl --data-binary @clip.wav http://localhost:3000/v1/classify

    Everything else is set by variables called TIMBRE_…, listed in docs/settings.md:

    \b
      TIMBRE_THREADS=2 TIMBRE_LOG_LEVEL=warning timbre serve
    """  # noqa: D301 (\b is click's mark for lines to leave as they are)
    environment = dict(os.environ)
    if bundle is not None:
        environment[_BUNDLE] = str(bundle)
    environment[_INTERNAL_HOST] = environment.get(_INTERNAL_HOST) or host
    settings = configuration.load(environment)
    if settings.internal_port == port:
        raise click.ClickException(f"{_INTERNAL_PORT}={port} is the public port; take another.")
    verify(settings)
    _require_free(host, port)
    # Absolute, because the server runs elsewhere: it looks for `service` in its own folder first,
    # which must be this package and not whatever is called so where the user happens to be.
    for field, value in settings:
        if isinstance(value, Path):
            environment[configuration.variable(field)] = str(value.absolute())
    environment["BENTOML_DO_NOT_TRACK"] = "True"
    home = Path(service.__file__).parent.parent
    click.echo(_welcome(host, port), err=True)
    os.execve(  # noqa: S606 - no shell is wanted
        sys.executable,
        [
            *(sys.executable, "-P", "-m", "bentoml", "serve", "service.app:Timbre"),
            *("--host", host, "--port", str(port), "--working-dir", str(home)),
        ],
        environment,
    )


def _require_free(host: str, port: int) -> None:
    """Say that a port is taken in one line, where the server would say it in fifty."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise click.ClickException(
                f"Cannot listen on {host} port {port}: {error.strerror}; try another --port."
            ) from error


def _welcome(host: str, port: int) -> str:
    """Name the three addresses that are worth knowing, as a browser takes them."""
    name = "localhost" if ipaddress.ip_address(host).is_unspecified else host
    url = f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
    return f"Timbre on {url} (try it) {url}/docs (reference) {url}/v1/classify (POST a clip)"
