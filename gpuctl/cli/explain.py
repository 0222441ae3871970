"""`why`, `events`, `logs`, `doctor`: what happened and why, and what is wrong with the host."""

from __future__ import annotations

from typing import Annotated

import typer

PANEL = "Explain"


def why(
    context: typer.Context,
    subject: Annotated[
        str,
        typer.Argument(metavar="SUBJECT", help="A replica (chat-3), or a GPU (gpu3, 3, a UUID)."),
    ],
) -> None:
    """Print the chain behind the last action: what was seen, decided and done, and how long."""
    from gpuctl.cli import journal

    journal.why(context.obj, subject)


def events(
    context: typer.Context,
    subject: Annotated[
        str | None, typer.Argument(metavar="SUBJECT", help="Only this replica's or GPU's.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One object a line.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they come.")] = False,
    since: Annotated[str | None, typer.Option(help="How far back: 10m, 24h.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only these kinds: failed, ready.")] = None,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=0, help="Only the newest.")
    ] = None,
) -> None:
    """Print the journal: every event, oldest first."""
    from gpuctl.cli import journal

    wanted = journal.Wanted(subject=subject, since=since, kinds=tuple(kind or ()), tail=tail)
    journal.events(context.obj, wanted, as_json=json, follow=follow)


def logs(
    context: typer.Context,
    replica: Annotated[str, typer.Argument(metavar="REPLICA", help="A replica, such as chat-3.")],
    previous: Annotated[
        bool, typer.Option("--previous", "-p", help="The log of the one before, kept at its end.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it comes.")] = False,
    tail: Annotated[int, typer.Option("--tail", "-n", min=1, help="How many lines.")] = 200,
) -> None:
    """Print what a replica's engine wrote."""
    from gpuctl.cli import output

    if previous:
        output.previous(context.obj, replica, tail)
    else:
        output.current(context.obj, replica, tail, follow=follow)


def doctor(
    context: typer.Context,
    profile: Annotated[
        str | None,
        typer.Argument(metavar="PROFILE", help="Judged with it: a file, or a shipped name."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a document for scripts.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Show also the checks that do not apply here.")
    ] = False,
) -> None:
    """Say what is wrong with this host and how to mend it; exit code 3 if something fails."""
    from gpuctl.cli import doctor as looking

    raise typer.Exit(looking.command(context.obj, profile, as_json=json, everything=everything))


COMMANDS = (why, events, logs, doctor)
