"""What `timbre compare` and `timbre judge` share: where to look, by what policy, and exit codes."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from service.domain import TimbreError

if TYPE_CHECKING:
    from service.canary.compare import Comparison, Judge, Progress
    from service.canary.pods import Names

PREFIX = "TIMBRE_COMPARE_"
WRONG = 3
"""Exit code of wrong usage and of every error: 0, 1 and 2 are verdicts."""
INTERRUPTED = 130

_Callback = TypeVar("_Callback", bound=Callable[..., Any])


class Wrong(click.ClickException):
    """Something went wrong, and nothing is said of the candidate."""

    exit_code = WRONG


class WrongUsage(click.UsageError):
    """The options are wrong."""

    exit_code = WRONG


class Command(click.Command):
    """Ends with `WRONG` whatever goes wrong, because click's own codes would be verdicts here."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:  # noqa: ANN401
        """Read the options."""
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            raise WrongUsage(error.format_message(), error.ctx) from error

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        """Run."""
        try:
            return super().invoke(ctx)
        except click.exceptions.Exit:
            raise
        except click.UsageError as error:
            raise WrongUsage(error.format_message(), error.ctx) from error
        except (click.ClickException, TimbreError) as error:
            raise Wrong(str(error)) from error
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except Exception as error:
            traceback.print_exc()
            raise Wrong(f"This should not have happened: {error!r}.") from error


@dataclass(frozen=True, slots=True)
class Sources:
    """The options that say where to look and how to judge."""

    golden: Path | None
    stable_url: str | None
    candidate_url: str | None
    token_file: Path | None
    prometheus: str | None
    namespace: str | None
    name: str | None
    stable_pods: str | None
    candidate_pods: str | None
    baseline_pods: str | None
    weight: int
    since: float | None
    block: float
    policy: Path | None


class _Moment(click.ParamType[float]):
    """Seconds ago, or a moment in ISO 8601, as seconds since 1970."""

    name = "seconds|time"

    def convert(
        self,
        value: str,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        now = datetime.now(UTC)
        try:
            moment = now.timestamp() - float(value)
        except ValueError:
            try:
                told = datetime.fromisoformat(value)
            except ValueError:
                self.fail(
                    f"{value!r} is neither seconds nor a time like 2026-01-31T12:00Z.", param, ctx
                )
            moment = (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
        if not 0 <= moment <= now.timestamp():
            self.fail(f"{value!r} is not in the past.", param, ctx)
        return moment


def _pattern(_context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        try:
            re.compile(value)
        except re.error as error:
            raise click.BadParameter(f"no regular expression: {error}.", param=parameter) from error
    return value


def option(*names: str, **settings: Any) -> Callable[[_Callback], _Callback]:  # noqa: ANN401
    """Make an option that is a variable too."""
    variable = PREFIX + names[0].removeprefix("--").upper().replace("-", "_")
    return click.option(*names, envvar=variable, show_envvar=True, **settings)


_OPTIONS = (
    option(
        "--golden",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="golden.json of a labelled set that both sides are asked about.",
    ),
    option("--stable-url", metavar="URL", help="Server of stable, with --golden."),
    option("--candidate-url", metavar="URL", help="Server of the candidate, with --golden."),
    option(
        "--token-file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Its first token is sent to both servers, as it is by then; else TIMBRE_TOKEN's.",
    ),
    option("--prometheus", metavar="URL", help="Prometheus that scrapes both sides' pods."),
    option("--namespace", metavar="NAMESPACE", help="Of the pods, with --prometheus."),
    option("--name", metavar="NAME", help="Full name of the chart's release: its Deployment's."),
    *(
        option(
            f"--{who}-pods",
            metavar="REGEX",
            callback=_pattern,
            help=f"Names of {who}'s pods, where they are not those of --name.",
        )
        for who in ("stable", "candidate", "baseline")
    ),
    option(
        "--weight",
        type=click.IntRange(0, 100),
        default=0,
        show_default=True,
        help="Percent of the traffic that the candidate has: the step of the policy.",
    ),
    option(
        "--since",
        type=_Moment(),
        help="From when on, in seconds ago or as a time; since the candidate started if not given.",
    ),
    option(
        "--block",
        type=click.FloatRange(5, 3600),
        default=60.0,
        show_default=True,
        metavar="SECONDS",
        help="Length of the blocks in which live traffic is counted.",
    ),
    option(
        "--policy",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="TOML with the checks, margins and steps that differ from the built-in ones.",
    ),
)


def sources(callback: _Callback) -> _Callback:
    """Give a command the options of `Sources`."""
    return reduce(lambda made, decorate: decorate(made), reversed(_OPTIONS), callback)


def checked(given: Sources) -> Sources:
    """Refuse what doesn't go together."""
    if given.golden is None and given.prometheus is None:
        raise click.UsageError("Give --golden, --prometheus, or both: what is to be compared?")
    urls = (given.stable_url, given.candidate_url)
    if given.golden is not None and not all(urls):
        raise click.UsageError("--golden needs --stable-url and --candidate-url.")
    if given.golden is None and any(urls):
        raise click.UsageError("--stable-url and --candidate-url are for --golden.")
    if given.prometheus is not None:
        if not given.namespace:
            raise click.UsageError("--prometheus needs --namespace.")
        if not given.name and not (given.stable_pods and given.candidate_pods):
            raise click.UsageError(
                "--prometheus needs --name, or --stable-pods and --candidate-pods."
            )
    return given


def judging(given: Sources) -> Judge:
    """Load the policy, and give what judges by it."""
    with needing("compare"):
        from service.canary.checks import judge  # noqa: PLC0415 - scipy takes a while to load
        from service.canary.policy import PolicyError, load_policy  # noqa: PLC0415
    try:
        policy = load_policy(given.policy)
    except PolicyError as error:
        raise Wrong(str(error)) from error
    return lambda observations, weight: judge(observations, policy, weight)


def comparison(given: Sources, stack: ExitStack) -> Comparison:
    """Open the sources; the golden set is verified."""
    from service.canary.compare import Comparison, Examining, Watching  # noqa: PLC0415
    from service.canary.prometheus import Prometheus  # noqa: PLC0415

    watching = examining = None
    if given.prometheus is not None:
        watching = Watching(
            stack.enter_context(Prometheus(given.prometheus)),
            _names(given),
            given.block,
            given.since,
        )
    if given.golden is not None and given.stable_url and given.candidate_url:
        from service.canary.asking import Asker  # noqa: PLC0415
        from service.canary.golden import read  # noqa: PLC0415
        from service.client import VARIABLE  # noqa: PLC0415

        token = given.token_file or os.environ.get(VARIABLE, "").strip() or None
        asker = Asker(given.stable_url, given.candidate_url, token=token)
        stack.callback(asker.close)
        opened = read(given.golden)
        examining = Examining(asker, opened, progress("Asking both"))
    return Comparison(watching=watching, examining=examining)


def _names(given: Sources) -> Names:
    """Find out what pods are called: by the release's name, but for what is told."""
    from service.canary.pods import Names  # noqa: PLC0415

    namespace = given.namespace or ""
    # No pod is called "-": without a name there is a baseline only if its pods are told.
    default = Names.of_release(namespace, given.name) if given.name else Names(namespace, *"---")
    return Names(
        namespace,
        stable=given.stable_pods or default.stable,
        candidate=given.candidate_pods or default.candidate,
        baseline=given.baseline_pods or default.baseline,
    )


@contextmanager
def needing(name: str) -> Iterator[None]:
    """Say which extra brings a package that is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise Wrong(
            f"This needs the extra `{name}` ({error.name} is missing): "
            f"in a checkout of Timbre, pip install '.[{name}]'."
        ) from error


def progress(what: str) -> Progress:
    """Show a bar where somebody looks at it."""

    @contextmanager
    def shown(steps: int) -> Iterator[Callable[[], None]]:
        console = Console(stderr=True)
        with Bar(
            TextColumn(what),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        ) as bar:
            task = bar.add_task("", total=steps)
            yield lambda: bar.advance(task)

    return shown
