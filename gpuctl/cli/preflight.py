"""
What must be true before anything starts, beyond the plan: ports, mounts, models, secrets, images,
disk.

Every mistake is reported at once; images that are missing are pulled.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gpuctl import fast_status
from gpuctl.cli import gateway_process, key_store, model_sources
from gpuctl.cli.progress import bar
from gpuctl.cli.session import Session
from gpuctl.errors import GpuctlError, ProfileError
from gpuctl.gateway import keyring
from gpuctl.overrides import FILES
from gpuctl.quantities import format_bytes

if TYPE_CHECKING:
    from gpuctl.model import Plan, Profile, Replica, Workload
    from gpuctl.ports import Runtime

Mistake = tuple[str, str]

#: The journal and eight rotated logs need this much; below it state.db may fail within a day.
_LEAST_FREE_BYTES = 256 * 1024**2

#: Enough of a secret's file to see that something is in it: a token has some 50 bytes.
_SECRET_BYTES = 4096


def check(session: Session, profile: Profile, plan: Plan, runtime: Runtime) -> None:
    """
    Refuse what cannot start. A simulated host has neither ports nor files.

    Raises:
        ProfileError: every obstacle, with its hint.
        RuntimeUnavailable: the runtime does not answer, or may not be asked.
    """
    ours = {reading.replica for reading in runtime.list() if reading.state == "running"}
    mistakes = [*_disk(session)]
    if runtime.kind != "simulated":
        for workload in profile.workloads:
            mistakes += [*_mounts(workload), *_model(workload), *_secrets(workload)]
        mistakes += _key_files(profile)
        for replica in plan.replicas:
            if replica.name not in ours:
                mistakes += _port(replica)
    if mistakes:
        raise ProfileError(tuple(dict.fromkeys(mistakes)))


def missing_models(profile: Profile) -> tuple[Mistake, ...]:
    """Return every model file that is not where its workload looks, with what fetches it."""
    return tuple(mistake for workload in profile.workloads for mistake in _model(workload))


def unread_secrets(profile: Profile) -> tuple[Mistake, ...]:
    """Return every file of a secret that could not be read at a start."""
    found = [mistake for workload in profile.workloads for mistake in _secrets(workload)]
    return (*found, *_key_files(profile))


def without_keys(session: Session, profile: Profile) -> tuple[Mistake, ...]:
    """Return what is to be said of a gateway that others reach, and that lacks the keys for it."""
    gateway = profile.gateway
    if gateway is None or not keyring.needs_keys(gateway.listen):
        return ()
    if gateway.key_files or gateway.keys_from:
        return ()
    try:
        if key_store.read(session.seen.keys):
            return ()
    except GpuctlError:
        return ()  # of those who may not look, or of a file that the gateway itself will refuse
    what = f"gateway.listen: {gateway.listen} is reached from elsewhere, and there is no key"
    return ((f"{what}: the gateway will refuse it", "make one: `gpuctl keys create NAME`"),)


def gateway_port(session: Session, profile: Profile) -> tuple[Mistake, ...]:
    """Return what is to be said of an address where another program listens than the gateway."""
    if profile.gateway is None or session.simulate:
        return ()
    listen, seen = profile.gateway.listen, session.seen
    host, _, port = listen.rpartition(":")
    try:
        os.stat(seen.gateway)
    except FileNotFoundError:
        told = ""
    except PermissionError:
        return ()  # of those who may not look: it may be the gateway itself
    else:
        told = str(fast_status.gateway(seen.gateway).get("listen"))
    if told.rpartition(":")[2] == port and gateway_process.running(seen) is not None:
        return ()
    if not _taken(host.strip("[]"), int(port)):
        return ()
    what = f"gateway.listen: {listen}: another program listens there already"
    return ((what, f"see who has it with `ss -ltnp 'sport = :{port}'`, or choose another"),)


def pull(session: Session, plan: Plan, runtime: Runtime) -> None:
    """Fetch every image the runtime lacks, with progress. Raises `StartRefused`."""
    if runtime.kind == "process":
        return
    for image in sorted({replica.spec.image for replica in plan.replicas} - {""}):
        if not runtime.has_image(image):
            with bar(session, f"pulling {image}") as show:
                runtime.pull(image, show)


def _disk(session: Session) -> Iterator[Mistake]:
    state = session.own.state
    free = shutil.disk_usage(state).free
    if free < _LEAST_FREE_BYTES:
        yield (
            f"{state}: {format_bytes(free)} free on its disk",
            f"make room: the journal needs {format_bytes(_LEAST_FREE_BYTES)} to be safe",
        )


def _mounts(workload: Workload) -> Iterator[Mistake]:
    for mount in workload.mounts:
        if os.path.isabs(mount.source) and not os.path.exists(mount.source):
            yield (
                f"workloads.{workload.name}.mounts: {mount.source} does not exist",
                f"create it (`mkdir -p {mount.source}`), or correct the path",
            )


def _model(workload: Workload) -> Iterator[Mistake]:
    """Look for a model file where it is mounted from; a hub's name is the engine's affair."""
    for need in model_sources.of_workload(workload):
        # A mount that is missing is said of itself.
        there = any(place.is_dir() for place in need.places) or os.path.isabs(need.model)
        if need.kind == "file" and there and need.found is None:
            paths = [path for path in need.paths if path.parent.is_dir()] or need.paths
            fetch = model_sources.pull_command(need)
            yield (
                f"workloads.{workload.name}.model: there is no {' or '.join(map(str, paths))}",
                f"fetch it with `{fetch}`, or correct `model` or `mounts`",
            )


def _secrets(workload: Workload) -> Iterator[Mistake]:
    """Look at the files of secrets; what they hold is never told."""
    for name, path in workload.secrets.items():
        variable = workload.set_by.get(name)
        where = f"workloads.{workload.name}.environment.{name}"
        if wrong := _unread(path):
            what, hint = wrong
            yield f"{f'environment: {variable}' if variable else where}: {path} {what}", hint


def _key_files(profile: Profile) -> Iterator[Mistake]:
    """Look at the gateway's files of keys, by the variable that named them if one did."""
    named = {text: variable for variable, text in profile.overrides.items() if variable in FILES}
    for path in profile.gateway.key_files if profile.gateway is not None else ():
        if wrong := _unread(path):
            what, hint = wrong
            where = f"environment: {named[path]}" if path in named else "gateway.key_files"
            yield f"{where}: {path} {what}", hint


def _unread(path: str) -> Mistake | None:
    """Return what keeps a file from being read as a secret, and what to do."""
    try:
        # A pipe that nobody writes to would keep a reader for ever.
        if not stat.S_ISREG(os.stat(path).st_mode):
            return "is no file", "name the file that the secret is in"
        with open(path, "rb") as file:
            if not file.read(_SECRET_BYTES).strip():
                return "is empty", "write the secret into it"
    except FileNotFoundError:
        return "does not exist", "write the secret into it, or correct the path"
    except PermissionError:
        return "may not be read by this user", "run as its owner, or let this user read it"
    except OSError as error:
        return f"cannot be read: {error.strerror}", "correct the path, or see to its disk"
    return None


def _port(replica: Replica) -> Iterator[Mistake]:
    port = replica.spec.host_port
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As a server would: an address in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            yield (
                f"workloads.{replica.workload}.port: {port} for {replica.name}: {error.strerror}",
                f"see who has it with `ss -ltnp 'sport = :{port}'`, or choose another",
            )


def _taken(host: str, port: int) -> bool:
    """Return whether somebody listens at one of a name's addresses; False where it has none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return False
    for family, kind, _, _, address in found:
        with socket.socket(family, kind) as probe:
            # As a server would: an address in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return True
    return False
