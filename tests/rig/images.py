"""
An image without a registry: a few links and empty directories, everything else from the host.

The containers run the host's own `/usr`, Python and this repository, mounted read-only.
"""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path, PurePosixPath

from docker import APIClient

from gpuctl.model import Mount

IMAGE = "gpuctl-rig:latest"
REPOSITORY = Path(__file__).resolve().parents[2]

#: Programs of the image; each gets the container's arguments.
LLAMA_SERVER = "/app/llama-server"
GPUSIM = "/app/gpusim"

#: No sbin: the engine mounts its init there, which a link into the read-only /usr would prevent.
_LINKS = ("bin", "lib", "lib64")
_FOLDERS = ("app", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var")


def build(client: APIClient) -> str:
    """Import the image into an engine and return its name. Takes a tenth of a second."""
    client.import_image_from_data(_archive(), repository="gpuctl-rig", tag="latest")
    return IMAGE


def rig_mounts() -> tuple[Mount, ...]:
    """Return what a container of the image needs from this host, read-only, at the same paths."""
    wanted = {Path("/usr"), Path(sys.base_prefix).resolve(), Path(sys.prefix), REPOSITORY}
    # One that lies inside another is there already.
    outermost = [path for path in wanted if not wanted & set(path.parents)]
    return tuple(
        Mount(source=str(path), target=str(path), read_only=True) for path in sorted(outermost)
    )


def _archive() -> bytes:
    """Return the tar of the image's root directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in _FOLDERS:
            archive.addfile(_entry(name, tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755))
        for name in _LINKS:
            link = _entry(name, tarfile.SYMTYPE, 0o777)
            link.linkname = f"usr/{name}"
            archive.addfile(link)
        for path, program in _programs().items():
            entry = _entry(str(PurePosixPath(path).relative_to("/")), tarfile.REGTYPE, 0o755)
            entry.size = len(program)
            archive.addfile(entry, io.BytesIO(program))
    return buffer.getvalue()


def _programs() -> dict[str, bytes]:
    python, base = sys.executable, Path(sys.base_prefix).resolve() / "bin" / "python3"
    simulator = REPOSITORY / "tests" / "rig" / "gpusim.py"
    # gpusim needs the standard library only: without site-packages it starts in half the time.
    return {
        LLAMA_SERVER: f'#!/bin/sh\nexec {python} -m gpuctl.embedded "$@"\n'.encode(),
        GPUSIM: f'#!/bin/sh\nexec {base} -IS {simulator} "$@"\n'.encode(),
    }


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = kind, mode
    return entry
