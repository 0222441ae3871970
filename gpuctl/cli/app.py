"""
The command line: every command by its group, global options, one handler for errors.

Command modules import nothing heavy at their top, so `--help` costs little more than typer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gpuctl import __version__, fast_status
from gpuctl.cli import errors, explain, keys, look, operate, prepare, serve
from gpuctl.cli.session import Session
from gpuctl.errors import GpuctlError


class Commands(TyperGroup):
    """The commands; global options may stand anywhere, and errors become words."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, hoisted(args))

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except GpuctlError as error:
            raise typer.Exit(errors.tell(error)) from None
        except BrokenPipeError:
            raise typer.Exit(errors.hang_up()) from None
        except OSError as error:
            code = None if ctx.params["debug"] else errors.tell_refusal(error)
            if code is None:
                raise
            if error.filename is None:
                errors.discard_output()
            raise typer.Exit(code) from None
        return result


def hoisted(arguments: list[str]) -> list[str]:
    """Return the arguments with `--simulate HOST` and `--debug` moved to the front."""
    front: list[str] = []
    rest: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--":
            return [*front, *rest, argument, *remaining]
        if argument == "--simulate":
            front += [argument, *[value for value in [next(remaining, None)] if value is not None]]
        elif argument == "--debug" or argument.startswith("--simulate="):
            front.append(argument)
        else:
            rest.append(argument)
    return [*front, *rest]


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 ok, 1 failed, 2 usage, profile or plan, 3 degraded or not running.",
)


@app.callback()
def root(
    context: typer.Context,
    simulate: Annotated[
        str,
        typer.Option(
            envvar="GPUCTL_SIMULATE",
            metavar="HOST",
            help="Simulate GPUs and runtime: p106x8, a100x8, a6000x2, rtx3090, cpu or a file.",
        ),
    ] = "",
    debug: Annotated[bool, typer.Option("--debug", help="Show where a bug happened.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Keep one inference container per GPU serving, and say why it did what it did."""
    session = Session(environment=dict(os.environ), simulate=simulate, debug=debug)
    if not debug:
        sys.excepthook = errors.bug
    if simulate:
        fast_status.refuse_unknown(simulate)
        session.say(f"gpuctl: simulated host {simulate}: none of this is real")
    context.obj = session


for group in (serve, look, operate, explain, prepare):
    for command in group.COMMANDS:
        app.command(rich_help_panel=group.PANEL)(command)
app.add_typer(prepare.profiles, name="profiles", rich_help_panel=prepare.PANEL)
app.add_typer(prepare.models, name="models", rich_help_panel=prepare.PANEL)
app.add_typer(keys.keys, name="keys", rich_help_panel=keys.PANEL)


def run(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Run one command line; leaves through `SystemExit`, as typer does."""
    errors.mend_streams()
    typer.main.get_command(app).main(args=arguments, prog_name="gpuctl")
    return 0
