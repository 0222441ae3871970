"""The `[gateway]` table: what makes no sense in it, with the very words the operator gets."""

from __future__ import annotations

import pytest

from gpuctl import profile
from gpuctl.model import GatewaySettings
from gpuctl.profile.written import RESERVED_PATHS
from tests.mistakes import CHAT, ENGINES, HEAD, mistakes

NONE = "write more than 0, or leave the key out"
ROUTE = 'write one as "/ocr", with no / at its end'


def found(text: str) -> list[tuple[str, str]]:
    """Return what is wrong with a `[gateway]`, without the file and the line."""
    told = mistakes(f"{HEAD}{CHAT}[gateway]\n{text}\n")
    return [(message.partition("gateway.")[2], hint) for message, hint in told]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        pytest.param(
            "retries = 11", "retries: 11 is more than 10", "write 10 or less", id="many-retries"
        ),
        pytest.param(
            "retries = -1", "retries: -1 is less than 0", "write 0 or more", id="fewer-than-none"
        ),
        pytest.param(
            "keep_alive_interval = 0",
            "keep_alive_interval: 0 is not enough",
            NONE,
            id="comments-without-end",
        ),
        pytest.param(
            'routing = "least-busy"',
            'routing: "least-busy" is not one of least_busy, round_robin, latency',
            "did you mean least_busy?",
            id="routing",
        ),
        pytest.param(
            'affinity = "ip"',
            'affinity: "ip" is not one of none, session, prefix',
            "write one of: none, prefix, session",
            id="affinity",
        ),
        pytest.param(
            "gate = { allowed_fails = 0 }",
            "gate.allowed_fails: 0 is less than 1",
            "write 1 or more",
            id="no-failure-allowed",
        ),
        pytest.param(
            "gate = { cooldown = 0 }", "gate.cooldown: 0 is not enough", NONE, id="no-cooldown"
        ),
        pytest.param(
            "limits = { connections = 0 }",
            "limits.connections: 0 is less than 1",
            "write 1 or more",
            id="no-connections",
        ),
        pytest.param(
            "limits = { head = 100 }",
            "limits.head: 100 bytes have no room for the head of a request",
            'the usual size is "16k"',
            id="head-too-small",
        ),
        pytest.param(
            'timeouts = { attempt = "301s" }',
            "timeouts.attempt: 301s is longer than a whole request may take (300s)",
            "shorten it, or lengthen streaming and batch",
            id="attempt-longer-than-all",
        ),
        pytest.param(
            'timeouts = { connect = "61s" }',
            "timeouts.connect: 61s is longer than a whole request may take (60s)",
            'the usual one is "2s"',
            id="connect-longer-than-all",
        ),
        pytest.param(
            'timeouts = { connect = "9s", attempt = "8s" }',
            "timeouts.connect: 9s is longer than an attempt may take (8s)",
            'the usual one is "2s"',
            id="connect-longer-than-an-attempt",
        ),
        pytest.param(
            "priorities = { embed = 3 }",
            'priorities.embed: "embed" is not one of chat, embedding, rerank, transcription, other',
            "did you mean embedding?",
            id="priority-of-no-kind",
        ),
        pytest.param(
            "priorities = { chat = 101 }",
            "priorities.chat: 101 is more than 100",
            "write 100 or less",
            id="priority-too-high",
        ),
        pytest.param(
            'pass_through = { "/ocr" = "chta" }',
            'pass_through."/ocr": there is no workload "chta"',
            "did you mean chat?",
            id="route-to-nobody",
        ),
        pytest.param(
            'pass_through = { "/ocr" = "chat", "/ocr/a" = "chat" }',
            'pass_through."/ocr/a": /ocr takes this already',
            "give the two paths that do not begin alike",
            id="route-in-a-route",
        ),
        pytest.param(
            'pass_through = { ocr = "chat" }',
            'pass_through.ocr: "ocr" is not the path of a route',
            ROUTE,
            id="route-without-a-slash",
        ),
        pytest.param(
            'pass_through = { "/" = "chat" }',
            'pass_through."/": "/" is not the path of a route',
            ROUTE,
            id="route-of-everything",
        ),
        pytest.param(
            'pass_through = { "/a/../v1" = "chat" }',
            'pass_through."/a/../v1": "/a/../v1" goes up or nowhere',
            "write it without dots between slashes",
            id="route-that-goes-up",
        ),
        pytest.param(
            'key_files = ["keys"]',
            'key_files[0]: "keys" is not an absolute path',
            "begin it with /",
            id="file-of-keys-somewhere",
        ),
        pytest.param(
            'keys_from = ["API_KEYS"]',
            "keys_from: unknown key",
            "the keys here are: affinity, gate, keep_alive_interval, key_files, limits, listen,"
            " max_in_flight, metrics_key, pass_through, priorities, queue, retries, routing,"
            " timeouts",
            id="what-only-the-environment-says",
        ),
        pytest.param(
            "metrics_key = 1",
            "metrics_key: 1 is not true or false",
            "write true or false, without quotes",
            id="number-for-a-switch",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, message: str, hint: str) -> None:
    """Each with its key and what to write instead."""
    assert found(text) == [(message, hint)]


@pytest.mark.parametrize("own", RESERVED_PATHS)
def test_no_route_begins_where_the_gateway_answers(own: str) -> None:
    """Neither at its own paths nor below them; a longer word is another path."""
    told = (f"{own} is answered by the gateway itself", "choose another path")
    for path in (own, f"{own}/more"):
        text = f'pass_through = {{ "{path}" = "chat" }}'
        assert found(text) == [(f'pass_through."{path}": {told[0]}', told[1])]
    text = f'{HEAD}{CHAT}[gateway]\npass_through = {{ "{own}-two" = "chat" }}\n'
    assert profile.loads(text, "p.toml", engines=ENGINES).gateway == GatewaySettings(
        pass_through={f"{own}-two": "chat"}
    )


@pytest.mark.parametrize(
    "key",
    ["connect", "streaming", "batch", "attempt", "idle", "head", "body", "keep_alive"],
)
def test_no_time_at_all_is_refused(key: str) -> None:
    """Nothing can be done in no time; only a drain may end at once."""
    assert found(f"timeouts = {{ {key} = 0 }}") == [(f"timeouts.{key}: 0 is not enough", NONE)]
