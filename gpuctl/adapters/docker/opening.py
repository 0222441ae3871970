"""
May a container open NVIDIA's devices? A shell in it tries, within a deadline.

Its device rules hold for the shell as for the engine. Called by the runtime, with a container that
is known to be ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from gpuctl.errors import RuntimeTimeout

if TYPE_CHECKING:
    from docker import APIClient

#: Opens the device that all of NVIDIA's need first, and touches no GPU. A device rule refuses with
#: EPERM, which every shell words alike; file permissions with another, and a missing node as well.
_TRY = """\
said=$({ : < /dev/nvidiactl; } 2>&1) && exit 0
case $said in *"Operation not permitted"*) exit 4 ;; esac
exit 3
"""
#: The rest tells nothing: 3 of above, a shell that failed, or was killed with its container.
_ANSWERS = {0: True, 4: False}
#: What the engine keeps of a program that it could not run: not executable, not there.
_NO_SHELL = (126, 127)
#: Waits before each look at the shell, which ends within milliseconds: two seconds together.
_WAITS_SECONDS = (0.05, 0.15, 0.3, 0.5, 1.0)


def may_open(client: APIClient, container: str, pause: Callable[[float], None]) -> bool | None:
    """
    Return whether it may, `None` where it does not tell; *pause* waits, in seconds.

    Raises `RuntimeTimeout` when the shell does not end, as in a frozen container or a driver that
    hangs: no second one is started then until it has.
    """
    # The engine is asked, not remembered: so it holds across restarts of gpuctl too.
    if any(_running(client, container)):
        raise _late(container)
    started = _start(client, container)
    for seconds in _WAITS_SECONDS:
        pause(seconds)
        found = client.exec_inspect(started)
        if not found["Running"]:
            return _ANSWERS.get(found["ExitCode"])
    raise _late(container)


def _running(client: APIClient, container: str) -> Iterator[bool]:
    """Yield for each process that the engine started in it whether it is ours and still runs."""
    from docker.errors import NotFound

    for process in client.inspect_container(container).get("ExecIDs") or ():
        try:
            found = client.exec_inspect(process)
        except NotFound:  # it has ended since
            continue
        yield found["Running"] and _TRY in (found["ProcessConfig"].get("arguments") or ())


def _start(client: APIClient, container: str) -> str:
    """Start the shell, return the id of its process."""
    from docker.errors import APIError

    made = client.exec_create(
        container, ["/bin/sh", "-c", _TRY], stdout=False, stderr=False, environment={"LC_ALL": "C"}
    )
    process = str(made["Id"])
    try:
        # Attached, the SDK would read what it says, for which it has no deadline (docker 7.2.0,
        # `docker/utils/socket.py`, read).
        client.exec_start(process, detach=True)
    except APIError:
        if client.exec_inspect(process)["ExitCode"] not in _NO_SHELL:
            raise
    return process


def _late(container: str) -> RuntimeTimeout:
    return RuntimeTimeout(f"cannot try the GPUs of {container[:12]}: the shell in it does not end")
