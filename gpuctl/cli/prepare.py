"""`plan`, `check`, `init`, `profiles`, `models`: before anything runs."""

from __future__ import annotations

from typing import Annotated

import typer

from gpuctl.cli.models import models

__all__ = ["COMMANDS", "PANEL", "check", "init", "models", "plan", "profiles"]

PANEL = "Prepare"

AsJson = Annotated[bool, typer.Option("--json", help="Print a document for scripts.")]


def plan(
    context: typer.Context,
    profile: Annotated[
        str | None, typer.Argument(metavar="PROFILE", help="A shipped profile's name, or a file.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Show what would run where, what it adds up to, and what would be done next."""
    from gpuctl.cli import planned

    raise typer.Exit(planned.command(context.obj, profile, as_json=json))


def check(
    context: typer.Context,
    profile: Annotated[
        str | None, typer.Argument(metavar="PROFILE", help="A file, or a shipped profile's name.")
    ] = None,
) -> None:
    """Validate a profile against itself and this host; every mistake at once, exit code 2."""
    from gpuctl.cli import planned

    planned.check(context.obj, profile)


def init(
    context: typer.Context,
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="Where to write it.")
    ] = "profile.toml",
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file.")] = False,
) -> None:
    """Write a profile for the GPUs found here, with comments to edit it by."""
    from gpuctl.cli import beginning

    beginning.command(context.obj, path, force=force)


COMMANDS = (plan, check, init)

profiles = typer.Typer(
    invoke_without_command=True,
    help="List the shipped profiles, or show one.",
    no_args_is_help=False,
)


@profiles.callback()
def profiles_list(context: typer.Context, json: AsJson = False) -> None:
    """List the shipped profiles, or show one."""
    from gpuctl.cli import beginning

    if context.invoked_subcommand is None:
        beginning.list_profiles(as_json=json)


@profiles.command("show")
def profiles_show(
    name: Annotated[str, typer.Argument(metavar="PROFILE", help="A shipped profile.")],
) -> None:
    """Print a shipped profile, to read or to start from."""
    from gpuctl.cli import beginning

    beginning.show_profile(name)
