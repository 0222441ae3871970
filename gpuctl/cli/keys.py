"""`keys`: make, list and take back the keys that the gateway lets clients in by."""

from __future__ import annotations

from typing import Annotated

import typer

from gpuctl.cli import durations

PANEL = "Operate"

keys = typer.Typer(help="Create, list and revoke API keys of the gateway.", no_args_is_help=True)


@keys.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is: a person, a program.")],
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Only for this one; repeatable. Else for all."),
    ] = None,
    rpm: Annotated[int | None, typer.Option(min=1, metavar="N", help="Requests a minute.")] = None,
    tpm: Annotated[int | None, typer.Option(min=1, metavar="N", help="Tokens a minute.")] = None,
    priority: Annotated[
        int | None,
        typer.Option(min=0, max=100, metavar="N", help="Its place in the queue: higher is first."),
    ] = None,
    expires: Annotated[
        float | None,
        typer.Option(parser=durations.lifetime, metavar="TIME", help="In so long: 30d, 12h."),
    ] = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="For the gateway's operator endpoints too.")
    ] = False,
) -> None:
    """
    Make a key and print it, this once: only its digest is kept.

    To replace a key without a gap, make a second one of the same NAME, which may do what the first
    may where nothing else is said; hand it out, then revoke the first by its id.

    For example: gpuctl keys create reports --model chat --rpm 30 --expires 90d
    """
    from gpuctl.cli import key_orders

    order = key_orders.Order(
        models=tuple(model or ()),
        requests_per_minute=rpm,
        tokens_per_minute=tpm,
        priority=priority,
        expires_seconds=expires,
        admin=admin,
    )
    key_orders.create(context.obj, name, order)


@keys.command("list")
def list_keys(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print a document for scripts.")] = False,
) -> None:
    """List the keys: whose they are, what they may, and whether they hold; never the keys."""
    from gpuctl.cli import key_orders

    key_orders.listing(context.obj, as_json=json)


@keys.command("revoke")
def revoke(
    context: typer.Context,
    names: Annotated[
        list[str], typer.Argument(metavar="NAME|ID…", help="As `keys list` has them.")
    ],
) -> None:
    """
    Take keys back, for good.

    For example: gpuctl keys revoke reports
    """
    from gpuctl.cli import key_orders

    key_orders.revoke(context.obj, tuple(names))
