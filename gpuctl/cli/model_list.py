"""`models list`: the model files in a profile's mounts and in the Hugging Face cache."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpuctl.cli import choose, model_sources
from gpuctl.cli.session import Session, display
from gpuctl.errors import GpuctlError, NotFound

if TYPE_CHECKING:
    from gpuctl.adapters.models.finding import Found
    from gpuctl.model import Profile
    from gpuctl.views.models import ModelRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """A model that was found, and what to call it where its path does not tell."""

    found: Found
    name: str


def command(session: Session, profile: str | None, *, as_json: bool) -> None:
    """Print every model that is here."""
    from gpuctl.views import models

    chosen = _profile(session, profile)
    uses = _uses(session, chosen)
    rows = [_row(here, uses) for here in _every(session, chosen)]
    if as_json:
        print(json.dumps({"schema": 1, "models": rows}, indent=2))
        return
    for problem in models.problems(rows):
        session.say(f"warning: {problem}")
    if rows:
        display(models.listed(rows))
    else:
        session.say("no model is here: `gpuctl models pull` fetches one")


def _profile(session: Session, name: str | None) -> Profile | None:
    """Return the profile to look by: the one named, or else the applied one, if there is one."""
    if name is not None:
        return choose.load(session, name)
    try:
        return choose.applied(session)
    except NotFound:
        return None


def _every(session: Session, profile: Profile | None) -> Iterator[Here]:
    """Yield what is in the mounts, in gpuctl's own models directory, and in the caches; once."""
    from gpuctl.adapters.models.finding import models_in

    seen: set[str] = set()
    for place in _places(session, profile):
        for here in (
            *(Here(found=found, name=_name(found.path, place)) for found in models_in(place)),
            *_cached(place),
        ):
            path = os.path.realpath(here.found.path)
            if path not in seen:
                seen.add(path)
                yield here


def _places(session: Session, profile: Profile | None) -> Iterator[Path]:
    from gpuctl.adapters.models import cache

    for workload in profile.workloads if profile else ():
        for mount in workload.mounts:
            if os.path.isabs(mount.source):
                source = Path(mount.source)
                yield from (source, source / "hub", source / "huggingface" / "hub")
    yield Path(session.own.state) / "models"
    yield cache.root(session.environment)


def _cached(place: Path) -> Iterator[Here]:
    """Yield the models of a Hugging Face cache: each snapshot's, and what is half fetched."""
    from gpuctl.adapters.models import cache
    from gpuctl.adapters.models.finding import Found, models_in

    repository = ""
    for snapshot in cache.snapshots(place):
        for found in models_in(snapshot.folder):
            within = found.path.relative_to(snapshot.folder)
            tail = "" if str(within) == "." else f"/{within}"
            yield Here(found=found, name=f"{snapshot.repository}{tail}")
        if snapshot.repository != repository:
            repository = snapshot.repository
            for left in snapshot.incomplete:
                found = Found(path=left.path, size_bytes=left.size_bytes, incomplete=True)
                yield Here(found=found, name=f"{repository} (part)")


def _uses(session: Session, profile: Profile | None) -> dict[str, list[str]]:
    """Return the workloads that use each model, by its real path."""
    from gpuctl.adapters.model_headers import place

    uses: dict[str, list[str]] = {}
    for workload in profile.workloads if profile else ():
        for need in model_sources.of_workload(workload):
            found = need.found
            if found is None and (placed := place(workload, session.environment)):
                found = placed[0]
            if found is not None:
                uses.setdefault(os.path.realpath(found), []).append(workload.name)
    return uses


def _row(here: Here, uses: dict[str, list[str]]) -> ModelRow:
    from gpuctl.adapters.model_headers import read
    from gpuctl.adapters.models.partial import SUFFIX

    found = here.found
    facts, problem = None, None
    if found.incomplete:
        problem = f"{found.path}: an interrupted download; pull it again and it goes on"
    else:
        try:
            facts = read(found.path)
        except GpuctlError as error:
            problem = str(error)
    return {
        "name": here.name.removesuffix(SUFFIX),
        "path": str(found.path),
        "format": facts.format if facts else None,
        "architecture": (facts.architecture or None) if facts else None,
        "quantization": (facts.quantization or None) if facts else None,
        "parameters": facts.parameters if facts else None,
        "size_bytes": found.size_bytes,
        "workloads": sorted(set(uses.get(os.path.realpath(found.path), ()))),
        "complete": facts is not None,
        "problem": problem,
    }


def _name(path: Path, place: Path) -> str:
    """Return a path as a profile names it: below the directory that is mounted."""
    return path.name if path == place else str(path.relative_to(place))
