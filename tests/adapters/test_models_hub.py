"""The real client of huggingface-hub against a hub on loopback."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.models import hub as hubs
from gpuctl.adapters.models.choice import HubFile
from gpuctl.adapters.models.hub import Hub, Listing
from gpuctl.errors import GpuctlError, NotFound, UsageError
from tests.rig import hub as rig
from tests.rig.hub import FakeHub, Fault

LARGE = b"weights" * 1000


@pytest.fixture
def served() -> Iterator[FakeHub]:
    with rig.running() as hub:
        hub.repositories["o/n"] = {"config.json": b"{}", "q/m.gguf": LARGE}
        yield hub


@pytest.fixture
def client(served: FakeHub) -> Hub:
    return Hub(endpoint=served.endpoint)


def test_a_repository_is_listed_at_its_commit(client: Hub) -> None:
    """Each file with its size and its checksum; folders are no files."""
    listing = client.listing("o/n")
    entry = rig.entry("q/m.gguf", LARGE)
    assert listing == Listing(
        repository="o/n",
        commit=rig.COMMIT,
        files=(
            HubFile(path="config.json", size_bytes=2, blob_id=rig.blob_id(b"{}")),
            HubFile(path="q/m.gguf", size_bytes=len(LARGE), sha256=entry["lfs"]["oid"]),
        ),
    )
    assert client.address(listing, "q/a b.gguf") == (
        f"{client.endpoint}/o/n/resolve/{rig.COMMIT}/q/a%20b.gguf"
    )


@pytest.mark.parametrize(
    ("fault", "kind", "message", "hint"),
    [
        pytest.param(
            Fault(status=403, headers={"X-Error-Code": "GatedRepo"}), GpuctlError,
            "o/n is gated, and this user may not have it", "accept its terms at", id="gated",
        ),
        pytest.param(
            Fault(status=401), GpuctlError,
            "{} answers 401 when it is asked for o/n", "if it is gated or private",
            id="401",
        ),
        pytest.param(
            Fault(status=403), GpuctlError,
            "{} answers 403 when it is asked for o/n", "if it is gated or private", id="403",
        ),
        pytest.param(
            Fault(status=404, headers={"X-Error-Code": "RepoNotFound"}), NotFound,
            "{} shows no repository o/n to this user", "correct the name", id="404",
        ),
        pytest.param(
            Fault(status=404, headers={"X-Error-Code": "RevisionNotFound"}), NotFound,
            "o/n has no revision main", "see its branches and tags at", id="revision",
        ),
        pytest.param(
            Fault(status=429), GpuctlError,
            "{} answers 429 when it is asked for o/n", "wait a few minutes", id="429",
        ),
        pytest.param(
            Fault(status=500), GpuctlError,
            "{} answers 500 when it is asked for o/n", "try again later", id="500",
        ),
    ],
)  # fmt: skip
def test_each_refusal_has_a_next_step(
    client: Hub, served: FakeHub, fault: Fault, kind: type[Exception], message: str, hint: str
) -> None:
    served.faults["api/o/n"] = [fault] * 10
    with pytest.raises(kind) as raised:
        client.listing("o/n")
    assert str(raised.value) == message.format(client.endpoint)
    assert hint in getattr(raised.value, "hint", "")


def test_a_hub_that_is_away(client: Hub) -> None:
    """The network, a proxy or a wrong HF_ENDPOINT: the next step names all three."""
    with pytest.raises(GpuctlError, match=r"http://127\.0\.0\.1:9 cannot be reached") as raised:
        Hub(endpoint="http://127.0.0.1:9").listing("o/n")
    assert raised.value.hint == ("look at the network and the proxy; HF_ENDPOINT names another hub")


@pytest.mark.parametrize(
    "path", [pytest.param("../x.gguf", id="upwards"), pytest.param("/x.gguf", id="absolute")]
)
def test_a_file_that_would_land_elsewhere_is_refused(
    client: Hub, served: FakeHub, path: str
) -> None:
    """A hub's word is not believed where it names a path outside the directory."""
    served.repositories["o/n"][path] = LARGE
    with pytest.raises(GpuctlError, match="the hub tells of a file that cannot be"):
        client.listing("o/n")


def test_the_environment_names_hub_and_user(served: FakeHub, tmp_path: Path) -> None:
    """A token's file goes before HF_TOKEN; both are taken without the space around them."""
    file = tmp_path / "token"
    file.write_text("  hf_file\n")
    environment = {"HF_ENDPOINT": f"{served.endpoint}/", "HF_TOKEN": " hf_variable "}
    endpoint = served.endpoint
    assert hubs.connect(environment, str(file)) == Hub(endpoint=endpoint, token="hf_file")
    assert hubs.connect(environment) == Hub(endpoint=endpoint, token="hf_variable")


def test_a_token_is_shown_to_nobody() -> None:
    """Not in a traceback of somebody's own either."""
    hub = Hub(endpoint="https://h.example", token="hf_secret")
    assert hub.headers() == {"Authorization": "Bearer hf_secret"}
    assert "hf_secret" not in repr(hub)
    assert Hub(endpoint="https://h.example").headers() == {}


@pytest.mark.parametrize(
    ("environment", "content", "message"),
    [
        pytest.param({"HF_TOKEN": "hf_a\nb"}, None, "HF_TOKEN does not hold a token", id="lines"),
        pytest.param({}, b"hf_a hf_b", "does not hold a token", id="two in a file"),
        pytest.param({}, b"", "does not hold a token", id="an empty file"),
        pytest.param({}, b"\xff\x00", "does not hold a token", id="bytes"),
    ],
)
def test_what_is_no_token_is_not_sent(
    tmp_path: Path, environment: dict[str, str], content: bytes | None, message: str
) -> None:
    """And not repeated: half of it may be one."""
    file = None if content is None else tmp_path / "token"
    if file is not None and content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=message) as raised:
        hubs.connect(environment, None if file is None else str(file))
    assert "hf_a" not in str(raised.value) + raised.value.hint


def test_a_token_s_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none: No such file or directory"):
        hubs.connect({}, str(tmp_path / "none"))


def test_a_hub_in_the_clear_is_refused() -> None:
    """The password of an address is not repeated."""
    with pytest.raises(UsageError) as raised:
        hubs.connect({"HF_ENDPOINT": "http://u:p@hub.example"})
    assert str(raised.value) == "HF_ENDPOINT: http://hub.example is not https"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"HF_HUB_OFFLINE": "1"}, True),
        ({"HF_HUB_OFFLINE": "true"}, True),
        ({"TRANSFORMERS_OFFLINE": "YES"}, True),
        ({"HF_HUB_OFFLINE": "0"}, False),
    ],
)
def test_a_host_may_be_kept_offline(environment: dict[str, str], expected: bool) -> None:
    """By the words that huggingface-hub takes for it."""
    assert hubs.offline(environment) is expected


@pytest.mark.parametrize("token", [None, "hf_x"])
def test_without_the_package_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    """The hint is a command of this very interpreter."""
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "huggingface_hub":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    environment = {"HF_TOKEN": token} if token else {}
    with pytest.raises(GpuctlError, match="huggingface-hub must be installed") as raised:
        hubs.connect(environment).listing("o/n")
    assert raised.value.hint.endswith(" -m pip install 'huggingface-hub>=2.4'")
