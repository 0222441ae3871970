"""
The Runtime of `gpuctl.ports` on a Docker Engine, through the SDK's low-level client.

Every method names the Engine API operation it uses (v1.41 and later) and raises children of
`RuntimeUnavailable` only. Made by the composition root; called from any thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from gpuctl import log_lines
from gpuctl.adapters.docker import creation, opening, reading
from gpuctl.adapters.docker.clients import Clients
from gpuctl.adapters.docker.faults import tolerating, translated
from gpuctl.adapters.docker.listing import Listing
from gpuctl.adapters.docker.pulling import Layers
from gpuctl.adapters.docker.streams import Streams
from gpuctl.errors import ContainerMissing, RuntimeTimeout, RuntimeUnavailable, StartRefused
from gpuctl.model import ContainerReading, ContainerSpec, RuntimeEvent

if TYPE_CHECKING:
    from docker import APIClient

#: For an answer to a question, each.
TIMEOUT_SECONDS = 10
#: A start loads the driver onto GPUs without persistence mode, a remove deletes a file system.
SLOW_SECONDS = 45


def _boot_seconds() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _short(container: str) -> str:
    """Return a name as it is, and of an id the twelve digits that people know it by."""
    return container[:12] if len(container) == 64 else container


def _image(client: APIClient, name: str) -> Mapping[str, Any]:
    """Return the image's own settings: its entrypoint, its command."""
    found = client.inspect_image(name)  # type: ignore[no-untyped-call]
    return cast(Mapping[str, Any], found.get("Config") or {})


class DockerRuntime:
    """
    The containers labelled `gpuctl.replica` on one engine; no other is listed or touched.

    *profile* narrows that to the containers labelled with it. *environment* is where
    `DOCKER_HOST` is looked up: the process's own by default. *starved* says whether the kernel has
    killed in a container (id) for its limit of RAM, which an engine may tell late or not at all.
    *pause* waits, in seconds.
    """

    kind = "docker"

    def __init__(
        self,
        *,
        profile: str | None = None,
        environment: Mapping[str, str] | None = None,
        timeout_seconds: int = TIMEOUT_SECONDS,
        boot_seconds: Callable[[], float] = _boot_seconds,
        starved: Callable[[str], bool] = lambda _: False,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        chosen = (reading.REPLICA,)
        self._labels = (*chosen, f"{reading.PROFILE}={profile}") if profile else chosen
        known = os.environ if environment is None else environment
        with translated("read DOCKER_HOST"):
            self._clients = Clients(known, timeout_seconds)
        self._boot_seconds, self._pause = boot_seconds, pause
        self._listing = Listing(self._labels, boot_seconds, starved)
        self._streams = Streams()

    def identity(self) -> str:
        """Return the engine's ID. Source: `GET /info`, ID."""
        with self._calling("ask for the engine's ID") as client:
            return str(client.info()["ID"])

    def list(self) -> tuple[ContainerReading, ...]:
        """
        Return every container of ours, by name.

        Source: `GET /containers/json?all=1`, and `GET /containers/{id}/json` for what changed.
        """
        # dockerd ends its containers when it is stopped, and still answers on old connections:
        # what it ended so must not be read as their own deaths.
        with self._calling("list the containers", fresh=True) as client:
            return self._listing.read(client)

    def inspect(self, container: str) -> ContainerReading | None:
        """Return one of ours by id or name, else `None`. Source: `GET /containers/{id}/json`."""
        at = self._boot_seconds()
        doing = f"inspect {_short(container)}"
        with self._calling(doing, fresh=True) as client, tolerating({404: ""}):
            found = client.inspect_container(container)
            if reading.REPLICA in reading.labels_of(found):
                return self._listing.inspected(found, at)
        return None

    def watch(self, since: float | None) -> Iterator[RuntimeEvent]:
        """
        Yield events of our containers; ends with the stream, silently.

        *since* is inclusive. The engine keeps the last 256 events or so, none across its own
        restart. Source: `GET /events`, filters type, label, event.
        """
        filters = {"type": ["container"], "label": [*self._labels], "event": [*reading.ACTIONS]}
        # The API takes a fraction of a second; the SDK's types know of whole ones only.
        after = cast(Any, None if since is None else f"{since:.6f}")
        with translated("read the events"):
            client = self._clients.open()
            stream = client.events(since=after, filters=filters, decode=True)
            for told in self._streams.read(client, stream):
                yield from self._listing.heard(reading.event(told))

    def create(self, name: str, spec: ContainerSpec, labels: Mapping[str, str]) -> str:
        """
        Create a container, return its id.

        Source: `POST /containers/create`; with secrets also `GET /images/{name}/json`.
        """
        with self._calling(f"create {name}", starting=True) as client:
            image = _image(client, spec.image) if spec.secrets else None
            body = creation.body(spec, labels, image)
            created = client.create_container_from_config(body, name)  # type: ignore[no-untyped-call]
        container = str(created["Id"])
        self._listing.changed(container)
        return container

    def start(self, container: str) -> None:
        """Start it; a running one stays as it is. Source: `POST /containers/{id}/start`."""
        with self._calling(f"start {_short(container)}", starting=True) as client:
            self._claim(client, container)
            client.start(container)

    def signal(self, container: str, signal: str) -> None:
        """Send a signal, unless it has ended. Source: `POST /containers/{id}/kill`."""
        with (
            self._calling(f"send {signal} to {_short(container)}") as client,
            tolerating({404: "", 409: "is not running"}),
        ):
            self._claim(client, container)
            client.kill(container, signal)

    def rename(self, container: str, name: str) -> None:
        """Rename it; one of that name already stays. Source: `POST /containers/{id}/rename`."""
        with (
            self._calling(f"rename {_short(container)} to {name}") as client,
            tolerating({400: "the same name"}),
        ):
            self._claim(client, container)
            client.rename(container, name)

    def disconnect(self, container: str) -> None:
        """
        Cut it from every network, which frees its published ports even while it runs.

        Source: `POST /networks/{id}/disconnect` with Force. The host's own network cannot be cut.
        """
        with self._calling(f"disconnect {_short(container)}") as client:
            self._claim(client, container)
            settings = client.inspect_container(container)["NetworkSettings"]
            for network in settings["Networks"]:
                with tolerating({404: "", 403: "is not connected"}):
                    client.disconnect_container_from_network(container, network, force=True)

    def remove(self, container: str) -> None:
        """
        Remove one that has ended, with its anonymous volumes.

        Source: `DELETE /containers/{id}?v=1`, never with force: that would send SIGKILL.
        """
        with (
            self._calling(f"remove {_short(container)}", timeout_seconds=SLOW_SECONDS) as client,
            tolerating({404: "", 409: "already in progress"}),
        ):
            self._claim(client, container)
            client.remove_container(container, v=True)

    def logs(self, container: str, lines: int) -> tuple[str, ...]:
        """Return its last lines, oldest first. Source: `GET /containers/{id}/logs`."""
        with self._calling(f"read the logs of {_short(container)}") as client:
            self._claim(client, container)
            written = client.logs(container, tail=lines)
        return tuple(log_lines.lines([written]))[-lines:] if lines else ()

    def follow(self, container: str, lines: int) -> Iterator[str]:
        """Yield its lines as they come. Source: `GET /containers/{id}/logs?follow=1`."""
        with translated(f"follow the logs of {_short(container)}"):
            client = self._clients.open()
            self._claim(client, container)
            stream = client.logs(container, stream=True, follow=True, tail=lines)
            yield from log_lines.lines(self._streams.read(client, stream))

    def may_open_gpus(self, container: str) -> bool | None:
        """
        Try it with a shell in the container, which its device rules hold for as for the engine.

        Source: `GET /containers/{id}/json`, ExecIDs; `POST /containers/{id}/exec`,
        `POST /exec/{id}/start`, `GET /exec/{id}/json`. Raises `RuntimeTimeout` after two seconds.
        """
        with self._calling(f"start a process in {_short(container)}") as client:
            self._claim(client, container)
            return opening.may_open(client, container, self._pause)

    def has_image(self, image: str) -> bool:
        """Return whether the engine has it. Source: `GET /images/{name}/json`."""
        with self._calling(f"look for the image {image}") as client, tolerating({404: ""}):
            client.inspect_image(image)  # type: ignore[no-untyped-call]
            return True
        return False

    def pull(self, image: str, progress: Callable[[str, float | None], None]) -> None:
        """Fetch an image. Source: `POST /images/create?fromImage=`. Raises `StartRefused`."""
        layers = Layers()
        with translated(f"fetch the image {image}", starting=True):
            client = self._clients.open()
            try:
                for message in client.pull(image, stream=True, decode=True):
                    if "error" in message:
                        raise StartRefused(f"cannot fetch the image {image}: {message['error']}")
                    progress(*layers.told(message))
            finally:
                client.close()

    def close(self) -> None:
        """End every stream and idle connection; the streams' readers return within a second."""
        self._streams.close()
        self._clients.close()

    @contextmanager
    def _calling(
        self,
        doing: str,
        *,
        starting: bool = False,
        fresh: bool = False,
        timeout_seconds: int | None = None,
    ) -> Iterator[APIClient]:
        """Lend this thread's client, and translate what goes wrong meanwhile."""
        seconds = SLOW_SECONDS if starting else timeout_seconds
        try:
            with (
                translated(doing, starting=starting),
                self._clients.use(seconds, fresh=fresh) as client,
            ):
                yield client
        except RuntimeUnavailable as error:
            # An engine that comes back may be an older one: agree on a version with it again.
            if type(error) in (RuntimeUnavailable, RuntimeTimeout):
                self._clients.forget()
            raise

    def _claim(self, client: APIClient, container: str) -> None:
        """Make sure that *container* is ours before it is touched. Raises `ContainerMissing`."""
        if self._listing.knows(container):
            return
        found = client.inspect_container(container)
        if reading.REPLICA not in reading.labels_of(found):
            raise ContainerMissing(f"{_short(container)} is not a container of gpuctl's")
        self._listing.changed(found["Id"])
