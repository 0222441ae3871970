"""
Where the gateway's keys are: keys.json, the files and the variables that the profile names.

`Keys` are those of clients: read when the gateway begins, and again when `stamp` has changed.
`EngineKeys` are the gateway's own, at engines that ask for one. Of both, what cannot be read for a
moment holds on as it was.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from gpuctl import paths
from gpuctl.errors import GpuctlError
from gpuctl.gateway.keyring import Keyring, listed, needs_keys
from gpuctl.gateway.log import Lines
from gpuctl.gateway.outages import Outages
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
            # ctime as well: a `chmod` or `chgrp` lets it be read, and changes nothing else.
            found.append((name, at.st_mtime_ns, at.st_ctime_ns, at.st_ino, at.st_size))
    return tuple(found)


class Keys:
    """Those of clients, read again when they have changed, and until that succeeds."""

    def __init__(
        self, path: str, environment: Mapping[str, str], lines: Lines, outages: Outages
    ) -> None:
        """*path* is that of keys.json."""
        self._path, self._environment = path, environment
        self._lines, self._outages = lines, outages
        self._ids: dict[str, str] = {}  # as in `Keyring.of`
        self._held: tuple[object, ...] = ()  # the stamp of what holds; () is read again

    def read(self, settings: GatewaySettings) -> tuple[Keyring, tuple[object, ...]]:
        """Return every key, and what to tell `hold` once they are those. Raises `GpuctlError`."""
        found = stamp(self._path, settings, self._environment)
        return load(self._path, settings, self._environment, self._ids), found

    def hold(self, stamp: tuple[object, ...]) -> None:
        """Take note that what was read with that stamp is what holds."""
        self._held = stamp
        self._outages.worked("keys_unreadable")

    def look(self, settings: GatewaySettings, listen: str, held: Keyring) -> Keyring:
        """Return what holds from now on where it listens at *listen*: *held*, if nothing is new."""
        if stamp(self._path, settings, self._environment) == self._held:
            return held
        try:
            fresh, found = self.read(settings)
        except GpuctlError as error:
            # What was in the way may be gone at the next look, and the files as they are now.
            self._held = ()
            self._outages.failed("keys_unreadable", error=str(error))
            fresh, closed = held, held.empty
        else:
            self.hold(found)
            self._lines.event("keys", count=len(fresh))
            closed = fresh.empty and needs_keys(listen)
        # A first key that cannot be read, or the file gone where others reach: no door opens by it.
        return Keyring.shut() if closed else fresh


class EngineKeys:
    """Read anew for each Status; one that cannot be read is told once, until it can."""

    def __init__(self, outages: Outages) -> None:
        self._outages = outages
        self._held: dict[str, str] = {}  # path → the key that was in it last

    def read(self, path: str) -> str:
        """Return the key in a file; while there is none the one before, "" if there never was."""
        try:
            self._held[path] = _only_key(path)
        except (OSError, ValueError) as error:
            # A file that is written anew is empty for a moment, and the engine has not changed.
            self._outages.failed("key_file_unreadable", file=path, error=str(error))
        else:
            self._outages.worked("key_file_unreadable", path)
        return self._held.get(path, "")


def _only_key(path: str) -> str:
    """Return the one key in a file. Raises OSError, or ValueError where it is none for a header."""
    with open(path, encoding="ascii", errors="surrogateescape") as file:
        key = file.read().strip()
    if not key:
        raise ValueError("no key is in it")
    if not _fits_a_header(key):
        raise ValueError("it is not one line of ASCII letters, digits and signs")
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
    if wrong := [key for key in found if not _fits_a_header(key)]:
        what = "a key of" if len(wrong) == 1 else f"{len(wrong)} keys of"
        raise GpuctlError(
            f"{where}: {what} other characters than a header may have",
            "write keys of ASCII letters, digits and signs",
        )
    return found


def _fits_a_header(key: str) -> bool:
    return key.isascii() and key.isprintable()


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
