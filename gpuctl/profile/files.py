"""
Profile files: finding them, reading them as text, and what about the file itself is doubtful.
"""

from __future__ import annotations

import stat
from importlib import resources
from pathlib import Path as FilePath

from gpuctl.errors import NotFound, ProfileError
from gpuctl.profile.mistakes import nearest

#: A profile is a few kilobytes; more is another file, or a device that never ends.
_MOST_BYTES = 1024**2

_EMPTY_HINT = "`gpuctl init` writes one for the GPUs found, `gpuctl profiles` lists the shipped"


def shipped() -> dict[str, FilePath]:
    """Return the shipped profiles by name, sorted; from the wheel, or beside the package."""
    package = FilePath(str(resources.files("gpuctl")))
    installed = package / "data" / "profiles"
    folder = installed if installed.is_dir() else package.parent / "profiles"
    found = {path.stem: path for path in folder.glob("*.toml")}
    return dict(sorted(found.items()))


def find(name_or_path: str) -> FilePath:
    """
    Return the file of a shipped profile by its name, or the path given.

    Raises:
        NotFound: it is neither; the hint has the nearest shipped name.
    """
    path = FilePath(name_or_path)
    names = shipped()
    if name_or_path in names:
        return names[name_or_path]
    if "/" in name_or_path or path.suffix == ".toml" or path.exists():
        return path
    hint = nearest(name_or_path, names, of="the shipped profiles are")
    raise NotFound(
        f"there is no profile {name_or_path!r}",
        f"{hint}{'' if hint[-1] == '?' else '.'} A path needs a / or .toml.",
    )


def read(path: FilePath) -> str:
    """
    Return the text of a profile.

    Raises:
        ProfileError: it is missing, unreadable, empty, too large, or not text.
    """
    try:
        # A pipe that nobody writes to would keep a reader for ever.
        if not path.is_dir() and not stat.S_ISREG(path.stat().st_mode):
            raise _refused(path, "is a pipe or a device, no file", "name a file")
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise _refused(path, *_why(path, error)) from error
    if len(content) > _MOST_BYTES:
        raise _refused(path, "is over 1 MiB: that is no profile", "name a profile")
    if not content.strip():
        raise _refused(path, "the file is empty", _EMPTY_HINT)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"byte {error.start} (0x{content[error.start]:02x}) is not UTF-8 text"
        raise _refused(path, what, "name a text file, saved as UTF-8", line) from error
    if "\x00" in text:
        line = text.count("\n", 0, text.index("\x00")) + 1
        raise _refused(path, "a NUL byte: this is not text", "name a text file", line)
    return text


def warnings(path: FilePath) -> tuple[tuple[str, str], ...]:
    """Return what is doubtful about the file itself, as (message, hint) pairs."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return ()
    writers = [
        who for bit, who in ((stat.S_IWGRP, "its group"), (stat.S_IWOTH, "everyone")) if mode & bit
    ]
    if not writers:
        return ()
    message = f"{path}: may be written by {' and '.join(writers)}, who then decide what runs here"
    return ((message, f"run: chmod go-w {path}"),)


def _why(path: FilePath, error: Exception) -> tuple[str, str]:
    if isinstance(error, FileNotFoundError):
        return "no such file", nearest(path.stem, shipped(), of="the shipped profiles are")
    if isinstance(error, IsADirectoryError):
        return "is a directory", "name a file in it"
    if isinstance(error, PermissionError):
        return "may not be read by this user", "run as its owner, or let this user read it"
    return f"cannot be read: {getattr(error, 'strerror', None) or error}", "name a profile"


def _refused(path: FilePath, what: str, hint: str, line: int | None = None) -> ProfileError:
    where = f"{path}:{line}" if line else f"{path}"
    return ProfileError(((f"{where}: {what}", hint),))
