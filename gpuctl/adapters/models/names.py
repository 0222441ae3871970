"""What an operator calls a model: a repository of a hub, an address, or the demo's. Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from gpuctl.errors import UsageError

_FORMS = "name it as ORG/NAME, ORG/NAME:Q4_K_M, https://HOST/FILE, or demo"

#: As the hub has them: 96 characters of these, no dot or dash at either end.
#: Source: huggingface_hub.utils._validators.validate_repo_id.
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"(?P<repository>{_PART}/{_PART})(?::(?P<quantization>[A-Za-z0-9_.-]+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubName:
    """A repository of a hub, and of a GGUF repository the one quantization that is wanted."""

    repository: str
    quantization: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """A file at an address."""

    address: str
    file_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """The small model of `gpuctl demo` and of the profile `cpu`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSource:
    """Where a model named as a path below a models directory comes from."""

    repository: str
    path: str  # within the repository


def parse(name: str) -> HubName | Url | Demo:
    """Return what a name means. Raises `UsageError`."""
    if name == "demo":
        return Demo()
    if "://" in name:
        return _url(name)
    match = _REPOSITORY.fullmatch(name)
    if match is None or ".." in name or "--" in match["repository"]:
        raise UsageError(f"{name!r} is no model's name", _FORMS)
    return HubName(repository=match["repository"], quantization=match["quantization"] or "")


def local_source(model: str) -> LocalSource | None:
    """
    Return where `ORG/NAME/FILE` below a models directory comes from, `None` for another path.

    The layout is the one that LM Studio and others keep models in.
    """
    organization, _, rest = model.partition("/")
    name, _, path = rest.partition("/")
    repository = f"{organization}/{name}"
    match = _REPOSITORY.fullmatch(repository)
    if not path or match is None or match["quantization"] or ".." in model.split("/"):
        return None
    return LocalSource(repository=repository, path=path)


def allowed(address: str) -> bool:
    """Tell whether it may be asked: over https, or on this machine."""
    parts = urlsplit(address)
    return parts.scheme == "https" or (parts.scheme == "http" and _loopback(parts.hostname or ""))


def shown(address: str) -> str:
    """Return an address for people: without its query or password, which may be a signature."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _url(name: str) -> Url:
    try:
        parts = urlsplit(name)
    except ValueError as error:
        raise UsageError(f"{name!r} is no address: {error}", _FORMS) from None
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            f"{shown(name)}: an address with a password in it would be seen by every user here",
            "have the file served without one, or fetch it by other means",
        )
    if not parts.hostname or not allowed(name):
        raise UsageError(
            f"{shown(name)}: only https is fetched from, and http on this machine itself",
            _FORMS,
        )
    file_name = unquote(parts.path.rpartition("/")[2])
    if not file_name or file_name in (".", "..") or "/" in file_name or "\0" in file_name:
        raise UsageError(f"{shown(name)} does not end in a file's name", _FORMS)
    return Url(address=name, file_name=file_name)


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
