"""What an operator calls a model."""

from __future__ import annotations

import pytest

from gpuctl.adapters.models.names import (
    Demo,
    HubName,
    LocalSource,
    Url,
    allowed,
    local_source,
    parse,
    shown,
)
from gpuctl.errors import UsageError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("demo", Demo(), id="demo"),
        pytest.param("org/name", HubName(repository="org/name"), id="a repository"),
        pytest.param(
            "org/na.me-7B_x:Q4_K_M",
            HubName(repository="org/na.me-7B_x", quantization="Q4_K_M"),
            id="and a quantization",
        ),
        pytest.param(
            "https://h.example/a/m%20x.gguf?download=1",
            Url(address="https://h.example/a/m%20x.gguf?download=1", file_name="m x.gguf"),
            id="an address",
        ),
        pytest.param(
            "http://[::1]:80/m.gguf",
            Url(address="http://[::1]:80/m.gguf", file_name="m.gguf"),
            id="this machine",
        ),
    ],
)
def test_a_name_is_understood(name: str, expected: object) -> None:
    assert parse(name) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("name", "is no model's name", id="no organization"),
        pytest.param("a/b/c", "is no model's name", id="three parts"),
        pytest.param("../b", "is no model's name", id="upwards"),
        pytest.param("a/b--c", "is no model's name", id="what the hub forbids"),
        pytest.param("a/b:", "is no model's name", id="nothing after the colon"),
        pytest.param("", "is no model's name", id="empty"),
        pytest.param("http://h.example/m", "only https", id="in the clear"),
        pytest.param("ftp://h.example/m", "only https", id="another scheme"),
        pytest.param("file:///etc/passwd", "only https", id="a file"),
        pytest.param("https:///m", "only https", id="no host"),
        pytest.param("https://[x/m", "is no address", id="no address at all"),
        pytest.param("https://h.example/", "does not end in a file's name", id="no file"),
        pytest.param("https://h.example/%2e%2e", "does not end", id="upwards, hidden"),
        pytest.param("https://h.example/a%2fb", "does not end", id="a directory, hidden"),
    ],
)
def test_a_name_that_is_none_is_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(name)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    """It would stand in the list of processes; the message does not spread it further."""
    with pytest.raises(UsageError) as raised:
        parse("https://me:hunter2@h.example/m.gguf")
    assert "h.example/m.gguf" in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_an_address_is_shown_without_its_signature() -> None:
    assert shown("https://me:x@h.example/a?signature=s") == "https://h.example/a"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://h.example/a", True),
        ("http://127.0.0.1:8/a", True),
        ("http://localhost/a", True),
        ("http://10.0.0.1/a", False),
        ("http://127.0.0.1.example/a", False),
        ("ftp://127.0.0.1/a", False),
    ],
)
def test_only_https_and_this_machine_may_be_asked(address: str, expected: bool) -> None:
    assert allowed(address) is expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        pytest.param("o/n/m.gguf", LocalSource(repository="o/n", path="m.gguf"), id="a file"),
        pytest.param("o/n/q/m.gguf", LocalSource(repository="o/n", path="q/m.gguf"), id="below"),
        pytest.param("m.gguf", None, id="a bare name"),
        pytest.param("o/m.gguf", None, id="one directory"),
        pytest.param("o/n:Q4/m.gguf", None, id="no directory's name"),
        pytest.param("o/n/../m.gguf", None, id="upwards"),
        pytest.param("/o/n/m.gguf", None, id="absolute"),
    ],
)
def test_a_path_may_tell_its_repository(model: str, expected: LocalSource | None) -> None:
    """ORG/NAME/FILE below a models directory, as others keep them too."""
    assert local_source(model) == expected
