"""A profile as a whole: what is missing or does not fit, with the very words the operator gets."""

from __future__ import annotations

import pytest

from tests.mistakes import CHAT, HEAD, mistakes


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        pytest.param(
            HEAD.replace("schema = 1\n", "") + CHAT,
            "p.toml:1: schema is missing",
            "begin the file with schema = 1",
            id="no-schema",
        ),
        pytest.param(
            HEAD.replace("= 1\n", "= 2\n") + CHAT,
            "p.toml:1: schema: 2 is not a format this gpuctl knows",
            "write schema = 1",
            id="other-schema",
        ),
        pytest.param(
            HEAD,
            "p.toml:1: there is no workload",
            "add [workloads.<name>] with an engine, a model and a port",
            id="no-workload",
        ),
        pytest.param(
            f"schema = 1\n{CHAT}",
            "p.toml:1: host is missing",
            'add [host] with name = "…"',
            id="no-host",
        ),
        pytest.param(
            "schema = 1\nworkloads = 5\n[host]\nname = 'a'\n",
            "p.toml:2: workloads: 5 is not a table",
            "write [workloads.<name>] for each",
            id="workloads-not-a-table",
        ),
        pytest.param(
            f"{HEAD}{CHAT}[watchdgo]\n",
            "p.toml:10: watchdgo: unknown key",
            "did you mean watchdog?",
            id="unknown-table",
        ),
        pytest.param(
            HEAD.replace('"rig"', '"My Rig"') + CHAT,
            'p.toml:3: host.name: "My Rig" is not a name',
            "use lower-case letters, digits and hyphens between them, at most 40",
            id="bad-host-name",
        ),
        pytest.param(
            HEAD + CHAT.replace("chat]", "chat-0]"),
            'p.toml:6: workloads.chat-0: "chat-0" ends as the name of a replica does',
            "end it in a letter, since replicas are named chat-0, chat-1 …",
            id="workload-named-as-a-replica",
        ),
        pytest.param(
            HEAD + CHAT.replace("chat]", '"Chat Bot"]'),
            'p.toml:6: workloads."Chat Bot": "Chat Bot" is not a name',
            "use lower-case letters, digits and hyphens between them, at most 40",
            id="bad-workload-name",
        ),
        pytest.param(
            HEAD + CHAT.replace("llama.cpp", "llamacpp"),
            'p.toml:7: workloads.chat.engine: there is no engine "llamacpp"',
            "did you mean llama.cpp?",
            id="unknown-engine",
        ),
        pytest.param(
            HEAD + CHAT.replace('engine = "llama.cpp"\n', ""),
            "p.toml:6: workloads.chat: engine is missing",
            "add engine = …",
            id="no-engine",
        ),
        pytest.param(
            HEAD + CHAT.replace('model = "chat.gguf"\n', ""),
            "p.toml:6: workloads.chat: model is missing, and llama.cpp needs one",
            'add model = "…"',
            id="no-model",
        ),
        pytest.param(
            HEAD + 'runtime = "process"\n' + CHAT.replace("llama.cpp", "vllm"),
            'p.toml:8: workloads.chat.engine: vllm does not run in runtime "process"',
            "it runs in docker, simulated",
            id="engine-not-in-this-runtime",
        ),
        pytest.param(
            HEAD + CHAT + CHAT.replace("chat]", "embed]").replace("8081", "8087"),
            "p.toml:13: workloads.embed.port: 8087 to 8093 overlaps workloads.chat (8081 to 8087)",
            "begin at 8088 or later: replica i listens on port + i",
            id="ports-of-two-workloads",
        ),
        pytest.param(
            HEAD + CHAT + '[gateway]\nlisten = "127.0.0.1:8083"\n',
            "p.toml:9: workloads.chat.port: 8081 to 8087 takes the port of gateway.listen (8083)",
            "choose another port",
            id="port-of-the-gateway",
        ),
        pytest.param(
            HEAD + CHAT + "[gateway]\nlisten = 4000\n",
            "p.toml:11: gateway.listen: 4000 is not an address",
            'write "127.0.0.1:4000"',
            id="listen-without-host",
        ),
        pytest.param(
            f"{HEAD}{CHAT}port = 1\n",
            'p.toml:10: not TOML: Key "port" already exists',
            "see https://toml.io for how TOML is written",
            id="key-twice",
        ),
    ],
)
def test_a_mistake_in_the_file_is_told_in_full(text: str, message: str, hint: str) -> None:
    """Between tables too, every mistake has its line, its path and its hint."""
    assert mistakes(text) == [(message, hint)]


def test_all_mistakes_are_told_at_once_in_the_files_order() -> None:
    """Values, keys, and what is between them: nobody mends a profile one run at a time."""
    text = (
        HEAD.replace("[7]", "[7, 8]")
        + CHAT.replace("8081", "0")
        + 'gpus = [[8, 7], "x"]\nbad = 1\n'
    )
    assert [message for message, _ in mistakes(text)] == [
        "p.toml:5: host.reserve: GPU 8 is not on this host, which has 0 to 7",
        "p.toml:9: workloads.chat.port: 0 is less than 1",
        'p.toml:10: workloads.chat.gpus[1]: "x" is not a GPU',
        "p.toml:11: workloads.chat.bad: unknown key",
    ]
