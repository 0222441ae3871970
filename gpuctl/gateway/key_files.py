"""
Where the gateway's keys are: keys.json, the files and the variables that the profile names.

Called when the gateway begins, and again when `stamp` has changed. `EngineKeys` are the gateway's
own, at engines that ask for one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from gpuctl import paths
from gpuctl.errors import GpuctlError
from gpuctl.gateway.keyring import Keyring, listed
from gpuctl.model import GatewaySettings

#: What other gateways for these engines take keys from.
VARIABLES = ("GATEWAY_API_KEYS", "API_KEYS")

#: Ten thousand keys are some 4 MB; more is another file, or a device that never ends.
_MOST_BYTES = 16 * 1024**2


def load(
    path: str,
    settings: GatewaySettings,
    environment: Mapping[str, str],
    ids: dict[str, str] | None = None,
) -> Keyring:
    """
    Return every key; *path* is that of keys.json, which need not be there, *ids* as in `Keyring`.

    Raises:
        GpuctlError: keys that there should be cannot be had. Without them it would be open to all.
    """
    inline = [*_of_files(settings, environment), *_of_variables(settings, environment)]
    try:
        return Keyring.of(document(path), inline, ids)
    except ValueError as error:
        raise damaged(path, error) from None


def document(path: str) -> bytes:
    """Return what is in keys.json, b"" where there is none. Raises `GpuctlError`."""
    content = _content(path)
    if content == b"":
        # As none it would let everyone in: a file is missing, or it is whole.
        raise damaged(path, ValueError("the file is empty"))
    return content or b""


def damaged(path: str, error: ValueError) -> GpuctlError:
    """Return what is said of a keys.json that is none."""
    return GpuctlError(f"{path}: {error}", "mend it, or move it away and make new keys")


def stamp(
    path: str, settings: GatewaySettings, environment: Mapping[str, str]
) -> tuple[object, ...]:
    """Return what is another as soon as one of the files is, or where keys are to be had."""
    found: list[object] = [settings.keys_from]
    for name in (path, *_files(settings, environment)):
        try:
            at = os.stat(name)
        except OSError:
            found.append((name, None))
        else:
            found.append((name, at.st_mtime_ns, at.st_ino, at.st_size))
    return tuple(found)


class EngineKeys:
    """Read anew for each Status; a file that cannot be read is told once, until it can."""

    def __init__(self, tell: Callable[[str, str], None]) -> None:
        """*tell* gets the path, and what is wrong."""
        self._tell = tell
        self._told: dict[str, str] = {}  # the same

    def read(self, path: str) -> str:
        """Return what is in a file, "" where it cannot be read."""
        try:
            with open(path, encoding="utf-8") as file:
                key = file.read()
        except (OSError, ValueError) as error:
            if self._told.get(path) != str(error):
                self._told[path] = str(error)
                self._tell(path, str(error))
            return ""
        self._told.pop(path, None)
        return key


def _files(settings: GatewaySettings, environment: Mapping[str, str]) -> tuple[str, ...]:
    own = (environment.get(f"{name}_FILE", "") for name in VARIABLES)
    return tuple(dict.fromkeys((*settings.key_files, *filter(None, own))))


def _of_files(settings: GatewaySettings, environment: Mapping[str, str]) -> Iterator[str]:
    for name in _files(settings, environment):
        content = _content(name)
        if content is None:
            raise GpuctlError(f"{name}: no such file of keys", "write it, or correct key_files")
        yield from _keys(name, content.decode(errors="surrogateescape"))


def _of_variables(settings: GatewaySettings, environment: Mapping[str, str]) -> Iterator[str]:
    for name in settings.keys_from:
        if not environment.get(name):
            raise GpuctlError(
                f"{name}: not in the gateway's environment, and the profile was applied with it",
                f"set it for the gateway, or run `gpuctl up` without it or with {name}_FILE",
            )
    for name in VARIABLES:
        if text := environment.get(name):
            yield from _keys(name, text)


def _keys(where: str, text: str) -> tuple[str, ...]:
    found = listed(text)
    if not found:
        raise GpuctlError(f"{where}: no key is in it", "write keys, with commas or lines between")
    if wrong := [key for key in found if not (key.isascii() and key.isprintable())]:
        what = "a key of" if len(wrong) == 1 else f"{len(wrong)} keys of"
        raise GpuctlError(
            f"{where}: {what} other characters than a header may have",
            "write keys of ASCII letters, digits and signs",
        )
    return found


def _content(path: str) -> bytes | None:
    """Return what is in a file, `None` where there is none. Raises `GpuctlError`."""
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        hint = paths.denied(path) if isinstance(error, PermissionError) else ""
        raise GpuctlError(f"{path}: {error.strerror}", hint) from None
    if len(content) > _MOST_BYTES:
        raise GpuctlError(f"{path}: over 16 MiB: these are no keys", "name a file of keys")
    return content
