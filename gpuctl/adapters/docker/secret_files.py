"""
Secrets as variables of a container: the names of their files in, what runs instead in; `docker
inspect` shows the files, and never a value. Pure; called by `creation`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gpuctl.model import Mount

#: Where the files are inside, by the convention of Docker's own secrets.
FOLDER = "/run/secrets"

# POSIX shell, and `cat`. Space around the value goes, as it does for a process: a file that was
# written by hand ends in a newline. `text` lives in the subshell of `$(...)`, so the engine gets
# the variables named and no other. 78 is EX_CONFIG of sysexits.h.
_READ = """\
secret() {
  text=$(cat "$1") || {
    echo "gpuctl: the secret $1 cannot be read by user $(id -u) of this container" >&2
    return 78
  }
  text=${text#"${text%%[![:space:]]*}"}
  printf %s "${text%"${text##*[![:space:]]}"}"
}
"""


def mounts(secrets: Mapping[str, str]) -> tuple[Mount, ...]:
    """Return what brings the files in; *secrets* has the host's file by variable."""
    return tuple(
        Mount(source=file, target=f"{FOLDER}/{name}", read_only=True)
        for name, file in secrets.items()
    )


def entrypoint(names: Iterable[str]) -> list[str]:
    """
    Return the entrypoint that reads each file into its variable and becomes its arguments.

    *names* are of variables, as the profile checks them, so none needs quoting.
    """
    exports = (f"{name}=$(secret {FOLDER}/{name}) || exit; export {name}\n" for name in names)
    return ["/bin/sh", "-c", f'{_READ}{"".join(exports)}exec "$@"', "gpuctl"]


def arguments(
    own: tuple[str, ...] | None, command: tuple[str, ...], image: Mapping[str, Any]
) -> list[str]:
    """
    Return what Docker would run without us; *image* is the image's `Config`.

    An entrypoint of the container's *own* leaves the image's Cmd out, unless it is empty.
    Source: moby, daemon/commit.go, `merge`.
    """
    first = image.get("Entrypoint") if own is None else own
    rest = command or (() if own else image.get("Cmd"))
    return [*(first or ()), *(rest or ())]
