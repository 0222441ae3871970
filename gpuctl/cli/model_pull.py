"""`models pull`: what a name means, whether there is room, the transfer, and what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpuctl.cli import model_sources
from gpuctl.cli.model_plan import Batch, of_repository, of_url
from gpuctl.cli.session import Session, show
from gpuctl.errors import GpuctlError, ProfileError, UsageError
from gpuctl.quantities import format_bytes, format_seconds

if TYPE_CHECKING:
    from gpuctl.adapters.models.transfer import Transfer
    from gpuctl.cli.transfer_progress import Shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the command line says."""

    revision: str | None = None
    pattern: str = ""  # --file
    to: Path | None = None
    token_file: str | None = None
    sha256: str | None = None


def command(session: Session, name: str | None, profile: str | None, order: Order) -> int:
    """Fetch one model, or those a profile lacks; print where each lies; return the exit code."""
    if session.simulate:
        raise UsageError(
            "a simulated host has no files of its own", "pull without --simulate, into real ones"
        )
    if name is not None and profile is not None:
        raise UsageError("a model and a profile are two pulls", "give one of them")
    if name is None and profile is None:
        raise UsageError("which model?", "name one, or give --profile PROFILE")
    try:
        if profile is not None:
            _of_profile(session, profile, order)
        else:
            show(str(_one(session, name or "", order)))
    except KeyboardInterrupt:
        session.say("interrupted: what is here is kept; the same command goes on from there")
        return 130
    return 0


def _one(session: Session, name: str, order: Order) -> Path:
    """Fetch one model; return where it lies."""
    from gpuctl.adapters.models.names import Demo, Url, parse

    match parse(name):
        case Demo():
            return _demo(session, order.to or _demo_place())
        case Url() as url:
            place = order.to or Path(session.own.state) / "models"
            _refuse(order.revision or order.pattern, "--revision and --file are for a repository")
            return _carry_out(session, of_url(url, place, order.sha256, order.token_file))
        case wanted:
            _refuse(order.sha256, "--sha256 is for an address: a hub tells its checksums itself")
            batch = of_repository(
                session,
                wanted,
                revision=order.revision,
                pattern=order.pattern,
                to=order.to,
                token_file=order.token_file,
            )
            return _carry_out(session, batch)


def _of_profile(session: Session, name: str, order: Order) -> None:
    """
    Fetch every model of a profile that is missing.

    Raises:
        ProfileError: those that cannot be had, once all the others are there.
    """
    from gpuctl.cli import choose

    _refuse(
        order.revision or order.pattern or order.to or order.sha256,
        "--revision, --file, --to and --sha256 are for one model, not for a profile",
    )
    mistakes: list[tuple[str, str]] = []
    found: list[Path] = []
    for need in model_sources.needs(choose.load(session, name)):
        try:
            found.append(_needed(session, need, order))
        except GpuctlError as error:
            mistakes.append((f"workloads.{need.workload}.model: {error}", error.hint))
    for path in dict.fromkeys(found):
        show(str(path))
    if mistakes:
        raise ProfileError(tuple(dict.fromkeys(mistakes)))


def _needed(session: Session, need: model_sources.Need, order: Order) -> Path:
    """Fetch what one workload wants, to where its engine looks for it; return where it lies."""
    from gpuctl.adapters.model_files import DEMO_MODEL
    from gpuctl.adapters.models.names import HubName, local_source

    if not need.places:
        raise GpuctlError(
            f"{need.model} has no directory of this host to lie in",
            "add a mount of one, by its absolute path",
        )
    if need.kind == "file" and need.found is not None:
        session.say(f"{need.model}: there already")
        return need.found
    place = need.places[0]
    if need.model == DEMO_MODEL.file_name:
        return _demo(session, place)
    token_file = order.token_file or need.token_file
    if need.kind == "repository":
        wanted = HubName(repository=need.model)
        return _carry_out(
            session, of_repository(session, wanted, cache=place, token_file=token_file)
        )
    source = local_source(need.model)
    if source is None or Path(need.model).is_absolute():
        raise GpuctlError(
            f"{need.model} is not in {place}, and a bare name does not tell which repository has "
            "it; ORG/NAME/FILE would",
            f"`{model_sources.pull_command(need)}`, with the repository for ORG/NAME",
        )
    batch = of_repository(
        session,
        HubName(repository=source.repository),
        pattern=source.path,
        to=place / source.repository,
        token_file=token_file,
    )
    return _carry_out(session, batch)


def _demo_place() -> Path:
    """Return the directory in which the profile `cpu` looks for its model."""
    from gpuctl.cli.choose import BARE
    from gpuctl.plugin import load_engines
    from gpuctl.profile import find, load

    profile = load(find(BARE), environment={}, engines=load_engines())
    return next(model_sources.needs(profile)).places[0]


def _demo(session: Session, place: Path) -> Path:
    from gpuctl.adapters.model_files import fetch_demo_model
    from gpuctl.cli.progress import bar

    with bar(session, "fetching the demo's model") as progress:
        path = fetch_demo_model(place, progress)
    session.say(f"{path.name}: verified: SHA-256")
    return path


def _carry_out(session: Session, batch: Batch) -> Path:
    """Fetch what a batch lacks, once there is room for all of it; return where it lies."""
    import httpx

    from gpuctl import __version__
    from gpuctl.adapters.models import space
    from gpuctl.adapters.models.transfer import Transfer
    from gpuctl.cli.transfer_progress import progress

    if batch.lacking:
        space.require(batch.place, batch.needed_bytes)
        session.say(_announced(batch))
    elif not batch.items:
        session.say(batch.title)
    with (
        httpx.Client(headers={"User-Agent": f"gpuctl/{__version__}"}) as client,
        progress(session, batch.total_bytes) as shown,
    ):
        _fetch(Transfer(client=client, say=shown.say), batch, shown)
    return batch.finish()


def _fetch(transfer: Transfer, batch: Batch, shown: Shown) -> None:
    for item in batch.items:
        began = time.monotonic()
        lacking = item in batch.lacking
        if lacking:
            shown.begin(item.wanted.name, item.wanted.size_bytes)
        fetched = transfer.fetch(item.wanted, shown.at)
        if item.name_it is not None:
            item.name_it()
        took = f"{format_seconds(time.monotonic() - began)}, " if lacking else ""
        shown.say(f"{item.wanted.name}: {took}{fetched.verified}")


def _announced(batch: Batch) -> str:
    count = len(batch.lacking)
    files = "1 file" if count == 1 else f"{count} files"
    size = "" if batch.total_bytes is None else f", {format_bytes(batch.needed_bytes)} to fetch"
    return f"{batch.title}: {files}{size}, into {batch.place}"


def _refuse(value: object, words: str) -> None:
    if value:
        raise UsageError(words, "leave it out")
