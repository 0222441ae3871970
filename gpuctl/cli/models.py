"""`models`: fetch model files, list those that are here, and say what is in one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

models = typer.Typer(help="Fetch, list and inspect model files.", no_args_is_help=True)


@models.command("pull")
def pull(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="ORG/NAME, ORG/NAME:Q4_K_M, https://HOST/FILE, or demo."
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(metavar="PROFILE", help="Fetch what this profile's workloads lack."),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="A branch, tag or commit.")] = None,
    file: Annotated[
        str, typer.Option("--file", metavar="PATTERN", help="Only the files that match.")
    ] = "",
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Here, not into the Hugging Face cache.")
    ] = None,
    token_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="A file that holds the hub's token.")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option("--sha256", help="What the file of an address must sum up to.")
    ] = None,
) -> None:
    """
    Fetch a model: resumed where it ended, checked, and room made sure of first.

    For example: gpuctl models pull bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M
    """
    from gpuctl.cli import model_pull

    order = model_pull.Order(
        revision=revision, pattern=file, to=to, token_file=token_file, sha256=sha256
    )
    raise typer.Exit(model_pull.command(context.obj, name, profile, order))


@models.command("list")
def list_models(
    context: typer.Context,
    profile: Annotated[
        str | None,
        typer.Argument(metavar="PROFILE", help="Look into its mounts; else the applied one's."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a document for scripts.")] = False,
) -> None:
    """List the model files in the mounts and in the Hugging Face cache."""
    from gpuctl.cli import model_list

    model_list.command(context.obj, profile, as_json=json)


@models.command("inspect")
def inspect(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="MODEL", help="A file, a directory, or ORG/NAME in the cache.")
    ],
    tokens: Annotated[
        int | None, typer.Option("--context", metavar="N", help="Tokens of one request.")
    ] = None,
    parallel: Annotated[int, typer.Option(metavar="N", help="Requests at once.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print a document for scripts.")] = False,
) -> None:
    """
    Show what is in a model, what it needs, and on which GPU of this host it fits.

    For example: gpuctl --simulate p106x8 models inspect m.gguf --context 8192
    """
    from gpuctl.cli import model_inspect

    model_inspect.command(context.obj, name, context=tokens, parallel=parallel, as_json=json)


@models.command("verify")
def verify(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="MODEL", help="ORG/NAME in the cache, or a file.")],
    sha256: Annotated[
        str | None, typer.Option("--sha256", help="What a file elsewhere must sum up to.")
    ] = None,
) -> None:
    """
    Sum up a model's files, and tell whether they are still those that were published.

    For example: gpuctl models verify meta-llama/Llama-3.1-8B-Instruct
    """
    from gpuctl.cli import model_verify

    raise typer.Exit(model_verify.command(context.obj, name, sha256))
