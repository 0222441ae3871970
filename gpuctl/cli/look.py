"""`status`, `top`, `gpus`, `report`, `metrics`: how it is now."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gpuctl.cli import durations

PANEL = "Look"

#: What a report can be printed as.
_FORMS = ("text", "markdown", "json")


def _form(value: Any) -> str:
    if value not in _FORMS:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(_FORMS)}")
    return str(value)


AsJson = Annotated[bool, typer.Option("--json", help="Print a document for scripts.")]
Form = Annotated[
    str,
    typer.Option("--format", parser=_form, metavar="FORM", help=f"One of {', '.join(_FORMS)}."),
]


def status(context: typer.Context, json: AsJson = False) -> None:
    """Show replicas, GPUs and what is wrong; exit code 3 unless all is ready, the gateway too."""
    from gpuctl import fast_status

    session = context.obj
    raise typer.Exit(fast_status.main(json, session.simulate, session.environment))


def top(
    context: typer.Context,
    interval: Annotated[
        float,
        typer.Option(parser=durations.interval, metavar="TIME", help="Look this often: 1, 500ms."),
    ] = 1.0,
) -> None:
    """Watch GPUs, replicas, conditions and events live; q quits."""
    from gpuctl.cli import watching

    watching.top(context.obj, interval)


def gpus(
    context: typer.Context,
    json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it live; q quits.")] = False,
) -> None:
    """Show the GPUs: from the daemon where one runs, else read now."""
    from gpuctl.cli import readings, watching

    if watch:
        watching.gpus(context.obj, as_json=json)
    else:
        readings.show(context.obj, as_json=json)


def report(
    context: typer.Context,
    since: Annotated[str, typer.Option(help="How far back: 1h, 24h, 90m.")] = "24h",
    form: Form = "text",
    json: AsJson = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing when healthy.")
    ] = False,
) -> None:
    """Report health for mail or cron: uptime, restarts by reason; exit code 3 if degraded."""
    from gpuctl.cli import reporting

    form = "json" if json else form
    raise typer.Exit(reporting.command(context.obj, since=since, form=form, quiet=quiet))


def metrics(context: typer.Context) -> None:
    """Print the status as Prometheus metrics, for a textfile collector."""
    from gpuctl import fast_status
    from gpuctl.cli.session import show
    from gpuctl.views import prometheus

    found = context.obj.status()
    show(prometheus.exposition(found, alive=fast_status.alive(found)).rstrip())


COMMANDS = (status, top, gpus, report, metrics)
