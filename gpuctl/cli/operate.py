"""`start`, `stop`, `restart`: an operator's Intents."""

from __future__ import annotations

from typing import Annotated

import typer

from gpuctl.cli import durations

PANEL = "Operate"

Subject = Annotated[
    str, typer.Argument(metavar="SUBJECT", help="A replica (chat-3) or a workload (chat).")
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return once the daemon knows.")]
Timeout = Annotated[
    float, typer.Option(parser=durations.seconds, metavar="TIME", help="Wait this long: 90, 30m.")
]


def start(
    context: typer.Context, subject: Subject, no_wait: NoWait = False, timeout: Timeout = 1800
) -> None:
    """Run a replica or workload that was stopped."""
    _intend(context, "start", subject, no_wait, timeout)


def stop(
    context: typer.Context, subject: Subject, no_wait: NoWait = False, timeout: Timeout = 300
) -> None:
    """Drain and stop a replica or workload, until it is started again."""
    _intend(context, "stop", subject, no_wait, timeout)


def restart(
    context: typer.Context, subject: Subject, no_wait: NoWait = False, timeout: Timeout = 1800
) -> None:
    """Renew a replica, or a workload's replicas one after another."""
    _intend(context, "restart", subject, no_wait, timeout)


def _intend(context: typer.Context, word: str, subject: str, no_wait: bool, timeout: float) -> None:
    from gpuctl.cli import intents

    code = intents.command(context.obj, word, subject, wait=not no_wait, timeout=timeout)
    raise typer.Exit(code)


COMMANDS = (start, stop, restart)
