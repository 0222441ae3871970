"""`up` and `down`: begin and end supervision; `daemon` and `gateway`: what the units run."""

from __future__ import annotations

from typing import Annotated

import typer

from gpuctl.cli import durations

PANEL = "Serve"


def up(
    context: typer.Context,
    profile: Annotated[
        str | None, typer.Argument(metavar="PROFILE", help="A shipped profile's name, or a file.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Do not wait.")] = False,
    timeout: Annotated[
        float,
        typer.Option(
            parser=durations.seconds, metavar="TIME", help="Wait this long for all: 90, 30m."
        ),
    ] = 1800,
) -> None:
    """Plan, check, start and supervise; returns when every replica is ready."""
    from gpuctl.cli import bring_up

    raise typer.Exit(bring_up.command(context.obj, profile, wait=not detach, timeout=timeout))


def down(
    context: typer.Context,
    timeout: Annotated[
        float,
        typer.Option(
            parser=durations.seconds, metavar="TIME", help="Wait this long for the last: 90, 5m."
        ),
    ] = 300,
) -> None:
    """Drain, stop and remove what the profile owns; it holds until the next `up`."""
    from gpuctl.cli import take_down

    raise typer.Exit(take_down.command(context.obj, timeout=timeout))


def daemon(context: typer.Context) -> None:
    """Supervise the applied profile in the foreground: what the systemd unit runs."""
    from gpuctl.cli import foreground

    raise typer.Exit(foreground.command(context.obj))


def gateway(context: typer.Context) -> None:
    """Answer clients in the foreground: what the gateway's systemd unit runs."""
    from gpuctl.cli import gateway_process

    gateway_process.become(context.obj)


def demo(
    context: typer.Context,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running.")] = False,
) -> None:
    """Show the whole thing on this machine: two CPU replicas of a real small model."""
    from gpuctl.cli import demonstration

    raise typer.Exit(demonstration.command(context.obj, keep=keep))


COMMANDS = (up, down, daemon, gateway, demo)
