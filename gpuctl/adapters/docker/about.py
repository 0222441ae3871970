"""What a Docker Engine tells of itself, and of the images of a profile: for `gpuctl doctor`."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuctl.adapters.docker.clients import Clients
from gpuctl.adapters.docker.faults import tolerating, translated
from gpuctl.diagnosis.facts import DaemonJson, DockerFacts, ImageFacts, Unread

if TYPE_CHECKING:
    from docker import APIClient

_CUDA = re.compile(r"([0-9]+)\.([0-9]+)")
_CONFIGURATION = Path("/etc/docker/daemon.json")
_ROUTE_LOCALNET = Path("/proc/sys/net/ipv4/conf/docker0/route_localnet")


def about(
    environment: Mapping[str, str],
    images: Collection[str] = (),
    *,
    timeout_seconds: int = 5,
    configuration: Path = _CONFIGURATION,
) -> DockerFacts:
    """
    Return the engine's settings, and those of *images* that it has.

    Source: `GET /version`, `GET /info`, `GET /images/{name}/json` of the Engine API, and
    daemon.json, of which the API does not tell the log options.

    Raises:
        RuntimeUnavailable: it does not answer, or may not be asked.
    """
    with translated("ask the Docker Engine what it is"):
        clients = Clients(environment, timeout_seconds)
        try:
            with clients.use() as client:
                told, version = client.info(), client.version()
                found = {name: _image(client, name) for name in sorted(images)}
        finally:
            clients.close()
    options = [str(option) for option in told.get("SecurityOptions") or ()]
    rootless = any(option.startswith("name=rootless") for option in options)
    if rootless:
        configuration = Path(environment.get("HOME", "/")) / ".config/docker/daemon.json"
    return DockerFacts(
        version=str(told.get("ServerVersion", "")),
        api_version=str(version.get("ApiVersion", "")),
        architecture=str(told.get("Architecture", "")),
        cgroup_driver=str(told.get("CgroupDriver", "")),
        live_restore=bool(told.get("LiveRestoreEnabled")),
        storage_driver=str(told.get("Driver", "")),
        logging_driver=str(told.get("LoggingDriver", "")),
        rootless=rootless,
        remapped=any(option.startswith("name=userns") for option in options),
        root_directory=str(told.get("DockerRootDir", "")),
        runtimes=tuple(sorted(told.get("Runtimes") or ())),
        default_runtime=str(told.get("DefaultRuntime", "")),
        cdi_directories=tuple(told.get("CDISpecDirs") or ()),
        swap_limit=bool(told.get("SwapLimit")),
        forwarding=bool(told.get("IPv4Forwarding")),
        images={name: image for name, image in found.items() if image is not None},
        config=configured(environment, configuration),
        loopback_routed=_routed(),
    )


def _image(client: APIClient, name: str) -> ImageFacts | None:
    with tolerating({404: ""}):
        found: Mapping[str, Any] = client.inspect_image(name)  # type: ignore[no-untyped-call]
        config = found.get("Config") or {}
        variables = dict(line.partition("=")[::2] for line in config.get("Env") or ())
        cuda = _CUDA.match(variables.get("CUDA_VERSION", ""))
        return ImageFacts(
            architecture=str(found.get("Architecture", "")),
            cuda_version=(int(cuda[1]), int(cuda[2])) if cuda else None,
            user=str(config.get("User") or "").partition(":")[0],
        )
    return None


def configured(environment: Mapping[str, str], path: Path) -> DaemonJson | Unread:
    """Return what an engine's configuration file says, where the engine is on this host."""
    host = environment.get("DOCKER_HOST", "")
    if host and not host.startswith("unix://"):
        return Unread(reason="absent", message=f"the engine is on another host: {host}")
    try:
        document = json.loads(path.read_bytes() or b"{}")
        if not isinstance(document, dict):
            raise ValueError("it is no object")
    except FileNotFoundError:
        return DaemonJson(path=str(path), there=False)
    except OSError as error:
        return Unread(reason="no_permission", message=f"{path}: {error.strerror}", hint="use sudo")
    except ValueError as error:
        return DaemonJson(path=str(path), broken=str(error))
    return DaemonJson(
        path=str(path),
        log_max_size="max-size" in (document.get("log-opts") or {}),
        userland_proxy=document.get("userland-proxy") is not False,
    )


def _routed() -> bool | None:
    try:
        return _ROUTE_LOCALNET.read_text().strip() == "1"
    except OSError:
        return None
