"""NVIDIA's container toolkit, and the CDI specifications it wrote."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from gpuctl.adapters.diagnosis.deadline import said
from gpuctl.diagnosis.facts import CdiFacts, CdiSpec, ToolkitFacts

#: Where an engine started by systemd looks, whatever this shell's PATH is.
_PLACES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VERSION = re.compile(r"version v?([0-9]+(?:\.[0-9]+)+)")

CDI_DIRECTORIES = ("/etc/cdi", "/var/run/cdi")
_KIND = "nvidia.com/gpu"
#: No YAML library is needed for a name: in a specification nothing but devices has that key.
_NAME = re.compile(r"^[\s-]*name:\s*[\"']?([^\s\"']+)", re.MULTILINE)
_YAML_KIND = re.compile(r"^kind:\s*[\"']?([^\s\"']+)", re.MULTILINE)
_DRIVER = re.compile(r"libcuda\.so\.([0-9]+\.[0-9.]*[0-9])")


def toolkit(environment: Mapping[str, str]) -> ToolkitFacts:
    """Return where its programs are. Source: the PATH; `nvidia-ctk --version`."""
    path = f"{environment.get('PATH', '')}:{_PLACES}"

    def which(name: str) -> str | None:
        return shutil.which(name, path=path)

    ctk = which("nvidia-ctk")
    found = _VERSION.search(said([ctk, "--version"])) if ctk else None
    return ToolkitFacts(
        hook=which("nvidia-container-runtime-hook"),
        runtime=which("nvidia-container-runtime"),
        ctk=ctk,
        cdi_hook=which("nvidia-cdi-hook"),
        version=tuple(map(int, found.group(1).split("."))) if found else None,
    )


def cdi(directories: Sequence[str] = CDI_DIRECTORIES) -> CdiFacts:
    """
    Return NVIDIA's specifications in the directories.

    Source: the Container Device Interface specification, `kind` and `devices[].name`.
    """
    specs: list[CdiSpec] = []
    unreadable: list[str] = []
    for directory in directories:
        for path in sorted(Path(directory).glob("*")):
            if path.suffix not in (".json", ".yaml", ".yml"):
                continue
            try:
                text, modified_at = path.read_text(encoding="utf-8"), path.stat().st_mtime
                kind, names = _named(path, text)
            except (OSError, ValueError):
                unreadable.append(str(path))
                continue
            if kind == _KIND:
                driver = _DRIVER.search(text)
                specs.append(
                    CdiSpec(
                        path=str(path),
                        modified_at=modified_at,
                        names=names,
                        driver_version=driver.group(1) if driver else None,
                    )
                )
    return CdiFacts(
        directories=tuple(directories), specs=tuple(specs), unreadable=tuple(unreadable)
    )


def _named(path: Path, text: str) -> tuple[str, tuple[str, ...]]:
    """Return kind and device names. Raises `ValueError` for what is no specification."""
    if path.suffix == ".json":
        document = json.loads(text)
        if not isinstance(document, dict):
            raise ValueError("it is no object")
        devices = document.get("devices") or []
        return str(document.get("kind", "")), tuple(str(each["name"]) for each in devices)
    kind = _YAML_KIND.search(text)
    return kind.group(1) if kind else "", tuple(_NAME.findall(text))
