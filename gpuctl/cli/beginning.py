"""`init` and `profiles`: a profile to start from."""

from __future__ import annotations

import json
import os
import re
import socket
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from gpuctl.cli import choose, compose
from gpuctl.cli.session import Session, display
from gpuctl.errors import GpuctlError, NotFound, UsageError

if TYPE_CHECKING:
    from gpuctl.model import GpuIdentity


def command(session: Session, path: str, *, force: bool) -> None:
    """Write a profile for the GPUs found. Raises `UsageError` when the file is there already."""
    if os.path.exists(path) and not force:
        raise UsageError(f"{path} exists already", "choose another name, or overwrite with --force")
    gpus = compose.inventory(session, None).gpus
    shipped = matching(session, gpus)
    text = _shipped(shipped) if shipped else _written(gpus, path)
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise GpuctlError(
            f"{path}: {error.strerror}", "choose a directory you may write to"
        ) from None
    source = f"from the shipped profile {shipped}" if shipped else "from the general template"
    session.say(f"{path}: written {source}, for {_found(gpus)}")
    session.say(f"next: edit it, then `gpuctl check {path}` and `gpuctl plan {path}`")


def matching(session: Session, gpus: tuple[GpuIdentity, ...]) -> str | None:
    """Return the first shipped profile made for exactly these GPUs, `None` without one."""
    from gpuctl.profile import shipped

    for name in shipped():
        expected = choose.load(session, name).host.gpus
        left = list(gpus)
        for entry in expected:
            fitting = [gpu for gpu in left if entry.name.lower() in gpu.name.lower()]
            left = [gpu for gpu in left if gpu not in fitting]
            if len(fitting) != entry.count:
                break
        else:
            if not left:
                return name
    return None


def list_profiles(*, as_json: bool) -> None:
    """Print the shipped profiles with what each is for."""
    from gpuctl.profile import shipped
    from gpuctl.views.tables import Columns

    found = {
        name: description(path.read_text(encoding="utf-8")) for name, path in shipped().items()
    }
    if as_json:
        rows = [{"name": name, "description": text} for name, text in found.items()]
        print(json.dumps({"schema": 1, "profiles": rows}, indent=2))
        return
    made = Columns("profile", "why")
    for name, text in found.items():
        made.add_row(name, text)
    display(made)


def show_profile(name: str) -> None:
    """Print a shipped profile as it is."""
    print(_shipped(name), end="")


def description(text: str) -> str:
    """Return the comment at the head of a profile, as one paragraph."""
    head = re.match(r"(?:#[^\n]*\n)*", text)
    lines = head[0].splitlines() if head else []
    return " ".join(line.lstrip("# ").rstrip() for line in lines)


def _shipped(name: str) -> str:
    from gpuctl.profile import find, shipped

    names = shipped()
    if name not in names:
        find(name)  # raises with the nearest name, unless it is a path
        raise NotFound(f"{name!r} is no shipped profile", f"there are {', '.join(names)}")
    return names[name].read_text(encoding="utf-8")


def _written(gpus: tuple[GpuIdentity, ...], path: str) -> str:
    from gpuctl.views import template

    name = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower()).strip("-") or "host"
    return template.profile(gpus, name=name, path=path)


def _found(gpus: tuple[GpuIdentity, ...]) -> str:
    counts = Counter(gpu.name for gpu in gpus)
    return ", ".join(f"{count}x {name}" for name, count in counts.items()) or "a host without a GPU"
