"""Room on file systems, and who may read the files that workloads name."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from gpuctl.diagnosis.facts import DiskFacts, FileFacts, FilesFacts, Step
from gpuctl.model import Mount, Plan, Profile, Workload

_SUFFIXES = (".gguf", ".safetensors", ".bin")
#: Whoever runs as it without this capability reads like anybody else.
_READS_ALL = ("DAC_OVERRIDE", "DAC_READ_SEARCH", "ALL")


def disks(uses: Iterable[tuple[str, str, bool]]) -> tuple[DiskFacts, ...]:
    """
    Return each file system once, for (what it is used for, a path on it, whether it is written).

    A path that is not there yet counts as the nearest above it. Source: statvfs(3).
    """
    found: dict[int, DiskFacts] = {}
    for use, path, written in uses:
        place = _existing(Path(path))
        device, room = place.stat().st_dev, os.statvfs(place)
        before = found.get(device)
        found[device] = DiskFacts(
            uses=tuple(dict.fromkeys((*(before.uses if before else ()), use))),
            path=before.path if before else str(place),
            free_bytes=room.f_bavail * room.f_frsize,
            total_bytes=room.f_blocks * room.f_frsize,
            inodes_free=room.f_favail,
            inodes_total=room.f_files,
            written=written or (before is not None and before.written),
        )
    return tuple(found.values())


def files(
    profile: Profile | None, plan: Plan | None, runtime: str, environment: Mapping[str, str]
) -> FilesFacts:
    """Return the files that a profile names, and the programs that its replicas are."""
    workloads = profile.workloads if profile else ()
    return FilesFacts(
        models=tuple(each for workload in workloads for each in _model(workload, runtime)),
        secrets=tuple(
            _file(workload, Path(path), Path(path))
            for workload in workloads
            for path in workload.secrets.values()
        ),
        programs=_programs(plan, environment) if runtime == "process" and plan else {},
    )


def _model(workload: Workload, runtime: str) -> Iterator[FileFacts]:
    """Yield the model's file where it is mounted from; a hub's name is the engine's affair."""
    if not workload.model.endswith(_SUFFIXES):
        return
    places = list(_places(workload.model, workload.mounts, runtime))
    if not places:
        return
    seen = [(top, path) for top, path in places if path.exists()]
    top, path = (seen or places)[0]
    yield _file(workload, top, path, _user(workload, runtime))


def _places(model: str, mounts: Iterable[Mount], runtime: str) -> Iterator[tuple[Path, Path]]:
    """Yield (directory that is mounted, file in it) wherever the model may lie on this host."""
    if runtime == "process" and os.path.isabs(model):
        yield Path("/"), Path(model)
        return
    for mount in mounts:
        source = Path(mount.source)
        if not source.is_absolute():
            continue  # a volume: Docker's own
        if not os.path.isabs(model):
            yield source, source / model
        elif Path(model).is_relative_to(mount.target):
            yield source, source / Path(model).relative_to(mount.target)


def _file(
    workload: Workload, top: Path, path: Path, user: tuple[int, int] | None = None
) -> FileFacts:
    steps: list[Step] = []
    there: bool | None = True
    try:
        below = path.relative_to(top).parts
        for number in range(len(below) + 1):
            steps.append(step(top.joinpath(*below[:number])))
    except FileNotFoundError:
        there = False
    except OSError:
        there = None
    return FileFacts(
        workload=workload.name,
        path=str(path),
        image=workload.image,
        there=there,
        steps=tuple(steps),
        user=user,
        privileged=any(name.removeprefix("CAP_") in _READS_ALL for name in workload.cap_add),
    )


def step(path: Path) -> Step:
    """Return who owns a path, and its permission bits. Source: stat(2)."""
    found = path.stat()
    return Step(path=str(path), uid=found.st_uid, gid=found.st_gid, mode=found.st_mode & 0o7777)


def _user(workload: Workload, runtime: str) -> tuple[int, int] | None:
    """Return uid and gid of a workload that says so in numbers, or by a name of this host."""
    uid, _, gid = (workload.user or "").partition(":")
    if uid.isdigit():
        return int(uid), int(gid) if gid.isdigit() else 0
    if runtime == "process" and uid:
        try:
            known = pwd.getpwnam(uid)
        except KeyError:
            return None
        return known.pw_uid, known.pw_gid
    return None


def _programs(plan: Plan, environment: Mapping[str, str]) -> dict[str, str | None]:
    path = environment.get("PATH", os.defpath)
    names = {
        words[0]
        for replica in plan.replicas
        if (words := (*(replica.spec.entrypoint or ()), *replica.spec.command))
    }
    return {name: shutil.which(name, path=path) for name in sorted(names)}


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.absolute().parents) if each.exists())
