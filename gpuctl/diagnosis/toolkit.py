"""Can a container get a GPU: NVIDIA's container toolkit, and CDI."""

from __future__ import annotations

from collections.abc import Iterator

from gpuctl.diagnosis.facts import CdiFacts, DockerFacts, DriverFacts, Facts, ToolkitFacts, Unread
from gpuctl.diagnosis.finding import Finding, Group, fail, needing, ok, skip, warn
from gpuctl.quantities import format_seconds

#: Before it, an image could become root on the host: CVE-2025-23266, fixed in 1.17.8. Source:
#: NVIDIA security bulletin of July 2025.
_SAFE = (1, 17, 8)
#: The hook or the runtime, by either of which the engine hands GPUs over.
_INSTALL = (
    "sudo apt-get install nvidia-container-toolkit && "
    "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker"
)
_GENERATE = "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"


def toolkit(found: ToolkitFacts, facts: Facts) -> Iterator[Finding]:
    """Judge whether it is there, where containers are to have GPUs, and its version."""
    if not facts.wants_gpus or not facts.in_docker:
        yield skip("toolkit", "no container is to have a GPU")
        return
    version = ".".join(map(str, found.version)) if found.version else "of unknown version"
    if not _injects(found, facts.docker):
        message = "no nvidia-container-runtime-hook, no runtime `nvidia`, and no CDI with a hook"
        yield fail("toolkit", "toolkit_missing", message, _INSTALL)
    elif found.version is not None and found.version < _SAFE:
        message = f"{version} lets a hostile image take over the host (CVE-2025-23266)"
        fix = "sudo apt-get install --only-upgrade nvidia-container-toolkit"
        yield warn("toolkit", "toolkit_old", message, fix)
    else:
        yield ok("toolkit", f"{version}, {found.hook or found.runtime or found.cdi_hook or 'here'}")


def specification(cdi: CdiFacts, facts: Facts) -> Iterator[Finding]:
    """Judge the CDI specification against the cards and the driver that are here."""
    if not facts.wants_gpus or not facts.in_docker:
        yield skip("cdi", "no container is to have a GPU")
    elif isinstance(facts.docker, Unread) or not facts.docker.by_cdi:
        yield skip("cdi", "the Docker Engine does not hand GPUs out by CDI")
    elif cdi.unreadable:
        message = f"cannot be read: {', '.join(cdi.unreadable)}"
        yield warn("cdi", "cdi_unreadable", message, _GENERATE)
    elif not cdi.specs:
        yield warn("cdi", "cdi_missing", f"none in {', '.join(cdi.directories)}", _GENERATE)
    else:
        yield from _current(cdi, facts)


def _current(cdi: CdiFacts, facts: Facts) -> Iterator[Finding]:
    """Compare names and driver version; an index is a name too, but not what gpuctl asks for."""
    names = {name for spec in cdi.specs for name in spec.names}
    newest = max(cdi.specs, key=lambda spec: spec.modified_at)
    age = format_seconds(max(0, int(facts.at - newest.modified_at)))
    described = f"{newest.path}, {age} old"
    gpus = () if isinstance(facts.gpus, Unread) else facts.gpus
    lacking = [gpu.uuid for gpu in gpus if gpu.state == "ok" and gpu.uuid not in names]
    driver = facts.driver.module_version if isinstance(facts.driver, DriverFacts) else None
    if gpus and not any(name.startswith("GPU-") for name in names):
        message = f"{described}, names no UUID: it is from a toolkit before 1.15"
        yield fail("cdi", "cdi_without_uuids", message, _GENERATE)
    elif lacking:
        message = f"{described}, does not name {', '.join(lacking)}"
        yield fail("cdi", "cdi_stale", message, _GENERATE)
    elif driver and newest.driver_version and newest.driver_version != driver:
        message = f"{described}, is of driver {newest.driver_version}, and {driver} is loaded"
        yield fail("cdi", "cdi_other_driver", message, _GENERATE)
    else:
        yield ok("cdi", f"{described}, names every card")


def _injects(found: ToolkitFacts, docker: DockerFacts | Unread) -> bool:
    """Return whether the engine can hand a GPU over in any of its three ways."""
    if found.hook:
        return True
    if isinstance(docker, Unread):
        return bool(found.runtime)
    return "nvidia" in docker.runtimes or bool(docker.by_cdi and found.cdi_hook)


GROUP = Group(
    name="container toolkit",
    checks=(needing("toolkit", "toolkit", toolkit), needing("cdi", "cdi", specification)),
)
