"""`start`, `stop`, `restart`, `scale`, `cordon`, `uncordon`, `failover`: an operator's Intents."""

from __future__ import annotations

from typing import Annotated

import typer

from gpuctl.cli import durations

PANEL = "Operate"

Subject = Annotated[
    str, typer.Argument(metavar="SUBJECT", help="A replica (chat-3) or a workload (chat).")
]
Gpu = Annotated[str, typer.Argument(metavar="GPU", help="Its index, its UUID, or how that begins.")]
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


def scale(
    context: typer.Context,
    counts: Annotated[
        list[str], typer.Argument(metavar="NAME=COUNT…", help="A workload and how many: llm=2.")
    ],
    no_wait: NoWait = False,
    timeout: Timeout = 1800,
) -> None:
    """
    Have so many replicas of a workload, on GPUs that are unused or in reserve.

    For example: gpuctl scale llm=2 chat=4
    """
    from gpuctl.cli import moves

    session = context.obj
    raise typer.Exit(moves.scale(session, tuple(counts), wait=not no_wait, timeout=timeout))


def cordon(
    context: typer.Context,
    gpu: Gpu,
    reason: Annotated[str, typer.Option(help="Why, for those who look later.")] = "",
    no_wait: NoWait = False,
    timeout: Timeout = 1800,
) -> None:
    """
    Start nothing more on a GPU; what runs there moves to the reserve, if there is room.

    For example: gpuctl cordon 3 --reason "new fan on Friday"
    """
    from gpuctl.cli import moves

    session = context.obj
    code = moves.cordon(session, gpu, reason, wait=not no_wait, timeout=timeout)
    raise typer.Exit(code)


def uncordon(
    context: typer.Context, gpu: Gpu, no_wait: NoWait = False, timeout: Timeout = 1800
) -> None:
    """Use a GPU again; what the profile puts there moves back."""
    from gpuctl.cli import moves

    raise typer.Exit(moves.uncordon(context.obj, gpu, wait=not no_wait, timeout=timeout))


def failover(
    context: typer.Context,
    to: Annotated[str, typer.Argument(metavar="cpu|gpu", help="cpu begins it, gpu ends it.")],
    subject: Annotated[
        str, typer.Argument(metavar="[SUBJECT]", help="A replica or a workload; else everything.")
    ] = "",
    no_wait: NoWait = False,
    timeout: Timeout = 1800,
) -> None:
    """
    Run on the CPU for now, with what `fallback = "cpu"` allows; `failover gpu` ends it.

    For example: gpuctl failover cpu llm
    """
    from gpuctl.cli import moves

    session = context.obj
    raise typer.Exit(moves.failover(session, to, subject, wait=not no_wait, timeout=timeout))


def _intend(context: typer.Context, word: str, subject: str, no_wait: bool, timeout: float) -> None:
    from gpuctl.cli import intents

    code = intents.command(context.obj, word, subject, wait=not no_wait, timeout=timeout)
    raise typer.Exit(code)


COMMANDS = (start, stop, restart, scale, cordon, uncordon, failover)
