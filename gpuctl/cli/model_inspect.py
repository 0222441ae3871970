"""`models inspect`: what is in a model, what it needs, and on which GPU it fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from gpuctl.cli import compose
from gpuctl.cli.session import Session, display, show
from gpuctl.errors import GpuUnavailable, NotFound, UsageError

if TYPE_CHECKING:
    from gpuctl.model import Inventory
    from gpuctl.planning.candidates import Candidate, Sum, Wish
    from gpuctl.views.models import Card, Inspection, Need


def command(
    session: Session, name: str, *, context: int | None, parallel: int, as_json: bool
) -> None:
    """Print a model."""
    from gpuctl.planning.candidates import Wish
    from gpuctl.views import models

    if (context is not None and context < 1) or parallel < 1:
        raise UsageError("--context and --parallel are 1 or more", "leave them out")
    wish = Wish(context=context, parallel=parallel)
    found = _inspected(session, named(session, name), wish)
    if as_json:
        print(json.dumps({"schema": 1, **found}, indent=2))
        return
    for line in models.described(found):
        show(line)
    if found["needs"]:
        display(models.needs(found))
    else:
        session.say("its files do not tell what it needs")
    if found["gpus"]:
        display(models.fits(found))


def named(session: Session, name: str) -> Path:
    """
    Return the file or directory that is meant.

    Raises:
        NotFound: neither a path nor in the Hugging Face cache.
    """
    from gpuctl.adapters.models import cache
    from gpuctl.adapters.models.choice import HubFile, chosen
    from gpuctl.adapters.models.names import HubName, parse

    path = Path(name)
    if path.exists():
        return _one_of(path) if path.is_dir() else path
    try:
        wanted = parse(name)
    except UsageError:
        wanted = None
    if not isinstance(wanted, HubName):
        raise NotFound(f"there is no {name}", "name a file, a directory, or ORG/NAME in the cache")
    snapshot = cache.snapshot(cache.root(session.environment), wanted.repository, "main")
    if snapshot is None:
        raise NotFound(
            f"{name} is neither a path nor in the Hugging Face cache",
            f"fetch it with `gpuctl models pull {name}`",
        )
    if not wanted.quantization:
        return _one_of(snapshot)
    files = tuple(
        HubFile(path=str(file.relative_to(snapshot)), size_bytes=file.stat().st_size)
        for file in sorted(snapshot.rglob("*.gguf"))
    )
    found = chosen(files, repository=wanted.repository, quantization=wanted.quantization)
    return snapshot / found[0].path


def _one_of(folder: Path) -> Path:
    """Return the one model of a directory. Raises `GpuctlError` where there are several."""
    from gpuctl.adapters.models.finding import models_in

    if (folder / "config.json").exists():
        return folder
    found = [model.path for model in models_in(folder) if not model.incomplete]
    if not found:
        raise NotFound(f"{folder} has no model in it", "name a .gguf file, or another directory")
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found)
        raise UsageError(f"{folder} has several models: {names}", "name one of them")
    return found[0]


def _inspected(session: Session, path: Path, wish: Wish) -> Inspection:
    from gpuctl.adapters.model_headers import description
    from gpuctl.planning import candidates
    from gpuctl.plugin import load_engines

    about = description.read(path)
    facts, engines, inventory = about.facts, load_engines(), _inventory(session)
    for note in facts.notes:
        session.say(f"warning: {note}")
    return {
        "path": str(path),
        "name": facts.name or path.name,
        "format": facts.format,
        "architecture": facts.architecture,
        "quantization": facts.quantization,
        "mix": dict(about.mix),
        "parameters": facts.parameters,
        "weights_bytes": facts.weights_bytes,
        "files": list(facts.files),
        "layers": facts.blocks,
        "kv_heads": sorted({part.kv_heads for part in facts.cache if part.kv_heads}),
        "windows": sorted({part.window for part in facts.cache if part.window is not None}),
        "experts": facts.experts,
        "context_max": facts.context_max,
        "vocabulary": facts.vocabulary,
        "tokenizer": about.tokenizer or None,
        "chat_template": about.chat_template,
        "license": about.license or None,
        "kv_bytes_per_token": candidates.kv_bytes_per_token(facts),
        "parallel": wish.parallel,
        "context": wish.context or facts.context_max,
        "needs": [_need(s) for s in candidates.sums(facts, inventory, engines, wish)],
        "gpus": [_card(c) for c in candidates.candidates(facts, inventory, engines, wish)],
    }


def _inventory(session: Session) -> Inventory:
    """Return the host; one whose driver does not answer has no GPU to fit on, and it is said."""
    try:
        return compose.inventory(session, None)
    except GpuUnavailable as error:
        session.say(f"warning: {error}: nothing is known of the GPUs here")
        return compose.inventory(session, None, gpus=False)


def _need(found: Sum) -> Need:
    return {
        "context": found.context,
        "weights_bytes": found.weights_bytes,
        "kv_bytes": found.kv_bytes,
        "overhead_bytes": found.overhead_bytes,
        "total_bytes": found.total_bytes,
    }


def _card(found: Candidate) -> Card:
    return {
        "gpus": [{"index": gpu.index, "uuid": gpu.uuid, "name": gpu.name} for gpu in found.gpus],
        "engine": found.engine,
        "fits": found.fits,
        "largest_context": found.largest_context,
        "why": list(found.why),
    }
