"""
Every exception of the Docker SDK and of `requests` → `gpuctl.errors`, in one context manager.

    404 on an image, or a refused create or start   StartRefused, in the engine's words
    404                                             ContainerMissing
    409 on a name                                   NameTaken
    no answer, or a connection lost before it       RuntimeTimeout: it may have happened
    anything else                                   RuntimeUnavailable
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gpuctl import masking
from gpuctl.errors import (
    ContainerMissing,
    NameTaken,
    RuntimeTimeout,
    RuntimeUnavailable,
    StartRefused,
)

if TYPE_CHECKING:
    from docker.errors import APIError

#: The engine's words for a start that cannot succeed, and the operator's next step.
_HINTS = (
    ("port is already allocated", "find what listens there with `ss -ltnp`, or change `port`"),
    ("address already in use", "find what listens there with `ss -ltnp`, or change `port`"),
    (
        "could not select device driver",
        "install the NVIDIA Container Toolkit, then restart the Docker Engine",
    ),
    ("cdi devices", "write the CDI specification anew: `nvidia-ctk cdi generate`"),
    ("nvidia-container", "see whether `nvidia-smi` works on the host"),
    ("hook", "see whether `nvidia-smi` works on the host"),
    ("no such image", "fetch it with `docker pull`, or correct `image` in the profile"),
    ("bind source path does not exist", "create it, or correct `mounts` or the secret's `file`"),
    ("executable file not found", "correct `command`: the image has no such program"),
)

#: Connecting failed with one of these: the request was never sent.
_NEVER_SENT = frozenset({errno.ENOENT, errno.ECONNREFUSED, errno.EACCES, errno.EAGAIN})


@contextmanager
def translated(doing: str, *, starting: bool = False) -> Iterator[None]:
    """
    Raise a child of `RuntimeUnavailable` for whatever the SDK raises inside.

    *doing* completes "cannot …"; *starting* makes a refusal `StartRefused`.
    """
    from docker.errors import DockerException, StreamParseError
    from urllib3.exceptions import HTTPError

    try:
        yield
    # Everything in requests.exceptions is an OSError.
    except (DockerException, StreamParseError, HTTPError, OSError) as error:
        raise fault(error, doing, starting=starting) from error


@contextmanager
def tolerating(expected: Mapping[int, str]) -> Iterator[None]:
    """
    Pass over an answer that means "it is so already".

    *expected* maps an HTTP status to words that the answer must have ("" for any).
    """
    from docker.errors import APIError

    try:
        yield
    except APIError as error:
        words = expected.get(error.status_code or 0)
        if words is None or words not in str(error.explanation):
            raise


def fault(error: Exception, doing: str, *, starting: bool = False) -> RuntimeUnavailable:
    """Return the error that an operator should read for *error* of the SDK."""
    from docker.errors import APIError
    from requests.exceptions import Timeout

    chain = tuple(_chain(error))
    answered = next((link for link in chain if isinstance(link, APIError)), None)
    if answered is not None:
        return _answered(answered, doing, starting=starting)
    if any(isinstance(link, Timeout | TimeoutError) for link in chain):
        return RuntimeTimeout(f"cannot {doing}: the Docker Engine did not answer in time")
    numbers = {link.errno for link in chain if isinstance(link, OSError) and link.errno}
    if numbers & _NEVER_SENT:
        return _unreachable(error, doing, denied=errno.EACCES in numbers)
    if any(isinstance(link, ConnectionError) for link in chain):
        return RuntimeTimeout(f"cannot {doing}: the Docker Engine hung up before it answered")
    return RuntimeUnavailable(f"cannot {doing}: {error or type(error).__name__}")


def _answered(error: APIError, doing: str, *, starting: bool) -> RuntimeUnavailable:
    """Return the fault for an HTTP status of 400 or more."""
    from docker.errors import ImageNotFound

    # It quotes the command that it could not run.
    words = masking.text(str(error.explanation or error).strip())
    message = f"cannot {doing}: {words}"
    lowered = words.lower()
    hint = next((hint for fragment, hint in _HINTS if fragment in lowered), "")
    if error.status_code == 409 and "is already in use" in words:
        return NameTaken(message)
    if isinstance(error, ImageNotFound):
        return StartRefused(message, hint)
    if error.status_code == 404 and (not starting or "no such container" in lowered):
        return ContainerMissing(message)
    return StartRefused(message, hint) if starting else RuntimeUnavailable(message)


def _unreachable(error: Exception, doing: str, *, denied: bool) -> RuntimeUnavailable:
    if denied:
        hint = "join the group `docker`, or run as root"
        return RuntimeUnavailable(f"cannot {doing}: the Docker Engine's socket is not ours", hint)
    hint = "see `gpuctl doctor`; DOCKER_HOST says which engine is meant"
    return RuntimeUnavailable(f"cannot {doing}: no Docker Engine listens", hint)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield *error* and what it was made from: the SDK and urllib3 nest causes in args too."""
    pending, seen = [error], set[int]()
    while pending:
        link = pending.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        nested = (link.__cause__, link.__context__, *link.args, getattr(link, "reason", None))
        pending.extend(cause for cause in nested if isinstance(cause, BaseException))
