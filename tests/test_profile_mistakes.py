"""Every kind of mistake in a profile, with the very words the operator gets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuctl import profile
from gpuctl.errors import ProfileError
from gpuctl.plugin import load_engines

ENGINES = load_engines()

HEAD = """\
schema = 1
[host]
name = "rig"
gpus = "8x P106-100"
reserve = [7]
"""
CHAT = """\
[workloads.chat]
engine = "llama.cpp"
model = "chat.gguf"
port = 8081
"""
GPU_HINT = "name one of those, or run `gpuctl init` to write a profile for the GPUs found"
BYTES_HINT = 'write bytes as a number, or as "512k", "1536m", "2g"'
SECONDS_HINT = 'write seconds as a number, or as "500ms", "5s", "10m", "2h", "1m30s"'


def mistakes(text: str) -> list[tuple[str, str]]:
    """Return what is wrong with a text, each with its hint."""
    with pytest.raises(ProfileError) as caught:
        profile.loads(text, "p.toml", engines=ENGINES)
    return list(caught.value.mistakes)


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        pytest.param(
            "prot = 1", "prot: unknown key", "did you mean port?", id="unknown-key-with-a-near-one"
        ),
        pytest.param(
            'engin."x" = 1', "engin: unknown key", "did you mean engine?", id="unknown-dotted-key"
        ),
        pytest.param(
            "image = 5", "image: 5 is not a text", "put it in quotes", id="number-for-text"
        ),
        pytest.param(
            'context = "4096"',
            'context: "4096" is not a whole number',
            "write digits, without quotes or a point",
            id="text-for-number",
        ),
        pytest.param(
            "context = 40.5",
            "context: 40.5 is not a whole number",
            "write digits, without quotes or a point",
            id="fraction-for-number",
        ),
        pytest.param(
            "context = true",
            "context: true is not a whole number",
            "write digits, without quotes or a point",
            id="boolean-for-number",
        ),
        pytest.param(
            'args = "--verbose"',
            'args: "--verbose" is not a list',
            "put it in brackets: [ … ]",
            id="text-for-list",
        ),
        pytest.param(
            'health = "/health"',
            'health: "/health" is not a table',
            "write it as { key = value }",
            id="text-for-table",
        ),
        pytest.param(
            "parallel = 0", "parallel: 0 is less than 1", "write 1 or more", id="zero-slots"
        ),
        pytest.param(
            'kind = "embeding"',
            'kind: "embeding" is not one of chat, embedding, rerank, transcription, other',
            "did you mean embedding?",
            id="unknown-word",
        ),
        pytest.param('memory = "12x"', 'memory: "12x" is not a size', BYTES_HINT, id="bad-unit"),
        pytest.param("memory = -5", "memory: -5 is negative", BYTES_HINT, id="negative-memory"),
        pytest.param(
            "memory = 0",
            "memory: 0 is not enough",
            "write more than 0, or leave the key out",
            id="no-memory",
        ),
        pytest.param(
            'memory = "1m"',
            "memory: 1 MiB is below 6 MiB, the least that Docker takes",
            'write it as "1536m" or "2g"',
            id="memory-below-dockers-least",
        ),
        pytest.param(
            'memory_swap = "1g"',
            "memory_swap: memory is missing: Docker takes memory_swap only beside it",
            'add memory = "…"',
            id="swap-without-memory",
        ),
        pytest.param('startup = "5"', 'startup: "5" is not a duration', SECONDS_HINT, id="no-unit"),
        pytest.param(
            "startup = inf", "startup: inf is not a duration", SECONDS_HINT, id="infinite"
        ),
        pytest.param(
            "gpus = [9]", "gpus: GPU 9 is not on this host, which has 0 to 7", GPU_HINT, id="gpu-9"
        ),
        pytest.param(
            "gpus = [7]",
            "gpus: GPU 7 is in reserve (host.reserve)",
            "take it out of host.reserve, or choose another GPU",
            id="gpu-in-reserve",
        ),
        pytest.param(
            "gpus = [[2, 3], [3, 4]]",
            "gpus: GPU 3 is named twice",
            "write replicas_per_gpu to run several replicas on one GPU",
            id="overlapping-groups",
        ),
        pytest.param(
            "gpus = []",
            "gpus: [] does not say which GPUs",
            'write "each", "none", [0, 1] or [[0, 1]]',
            id="no-gpu",
        ),
        pytest.param(
            'gpus = "all"',
            'gpus: "all" does not say which GPUs',
            'write "each", "none", [0, 1] or [[0, 1]]',
            id="unknown-gpus",
        ),
        pytest.param(
            "gpus = [0, -1]",
            "gpus[1]: -1 is not a GPU",
            'write its index (0, 1 …) or its UUID "GPU-…"',
            id="negative-gpu",
        ),
        pytest.param(
            "gpus = [[]]",
            "gpus[0]: a group of no GPU",
            "name the GPUs of one replica, as in [[0, 1]]",
            id="empty-group",
        ),
        pytest.param(
            "replicas = 2",
            "replicas: counts replicas on the CPU, and this workload runs on GPUs",
            'with GPUs, write replicas_per_gpu; replicas goes with gpus = "none"',
            id="replicas-on-gpus",
        ),
        pytest.param(
            'mounts = ["./models:/models"]',
            'mounts[0]: "./models" is neither an absolute path nor a volume',
            "write the whole path, from /",
            id="relative-mount",
        ),
        pytest.param(
            'mounts = ["models"]',
            'mounts[0]: "models" is not a mount',
            'write "source:/target" or "…:ro"',
            id="mount-without-target",
        ),
        pytest.param(
            'mounts = ["a:/../b"]',
            'mounts[0]: "/../b" is not a path inside the container',
            "begin it with /",
            id="mount-outside",
        ),
        pytest.param(
            'mounts = ["a:/b", "c:/b/"]',
            'mounts[1]: "/b/" is mounted twice',
            "give each mount a target of its own",
            id="mount-twice",
        ),
        pytest.param(
            "ulimits = { stack = [2, 1] }",
            "ulimits: stack: the soft limit 2 is above the hard limit 1",
            "write a number, [soft, hard], or -1 for unlimited",
            id="soft-above-hard",
        ),
        pytest.param(
            "ulimits = { stack = true }",
            "ulimits: stack: true is not a limit",
            "write a number, [soft, hard], or -1 for unlimited",
            id="bad-ulimit",
        ),
        pytest.param(
            'cap_add = ["sys_nice"]',
            'cap_add[0]: "sys_nice" is not a capability',
            'write one as "IPC_LOCK"',
            id="bad-capability",
        ),
        pytest.param(
            'environment = { HF_TOKEN = "hf_abc" }',
            "environment.HF_TOKEN: looks like a secret, and a profile is no place for one",
            'write HF_TOKEN = { file = "/path" }: the file is read at every start',
            id="secret-inline",
        ),
        pytest.param(
            "environment = { WORKERS = 4 }",
            "environment.WORKERS: the value is not a text",
            'put it in quotes, or write { file = "/path" }',
            id="number-in-the-environment",
        ),
        pytest.param(
            'environment = { HF_TOKEN = { file = "token" } }',
            "environment.HF_TOKEN: the file is not an absolute path",
            'write { file = "/etc/gpuctl/token" }',
            id="relative-secret-file",
        ),
        pytest.param(
            'environment = { "A B" = "1" }',
            'environment."A B": "A B" cannot name a variable',
            "use letters, digits and _",
            id="bad-variable-name",
        ),
        pytest.param(
            "log = { max_file = 3 }",
            "log.max_file: unknown key",
            "did you mean max_files?",
            id="unknown-key-inside",
        ),
        pytest.param(
            "docker_health = { retries = 3 }",
            "docker_health: test is missing",
            "add test = …",
            id="missing-key-inside",
        ),
        pytest.param(
            'docker_health = { test = ["curl"] }',
            "docker_health.test: ['curl'] is not a test",
            'write ["CMD", "curl", …] or ["CMD-SHELL", …]',
            id="bad-docker-test",
        ),
        pytest.param(
            "options = { batsh = 1 }",
            "options.batsh: unknown key",
            "did you mean batch?",
            id="unknown-option",
        ),
        pytest.param(
            "options = { batch = 0 }",
            "options.batch: 0 is not 1 or more",
            "see the options of engine llama.cpp",
            id="option-the-engine-refuses",
        ),
        pytest.param(
            "options = { tensor_parallel = 3 }",
            "options.tensor_parallel: unknown key",
            "it follows from the group: gpus = [[0, 1]] is one replica on two GPUs",
            id="tensor-parallel-as-an-option",
        ),
        pytest.param(
            "replicas_per_gpu = 9000",
            "port: 63000 replicas would need ports up to 71080",
            "begin lower: 65535 is last",
            id="ports-beyond-the-last",
        ),
    ],
)
def test_a_mistake_in_a_workload_is_told_in_full(line: str, message: str, hint: str) -> None:
    """The message has file, line, key path and what is wrong; the hint says what to do."""
    number = 9 if message.startswith("port:") else 10
    assert mistakes(f"{HEAD}{CHAT}{line}\n") == [
        (f"p.toml:{number}: workloads.chat.{message}", hint)
    ]


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
            HEAD.replace("8x P", "x8 P") + CHAT,
            'p.toml:4: host.gpus: "x8 P106-100" is not a number of GPUs',
            'write "8x P106-100", "2x" for any two, or a list of such',
            id="bad-expectation",
        ),
        pytest.param(
            HEAD.replace("[7]", "[9]") + CHAT,
            "p.toml:5: host.reserve: GPU 9 is not on this host, which has 0 to 7",
            GPU_HINT,
            id="reserve-off-the-host",
        ),
        pytest.param(
            HEAD.replace("8x", "1x").replace("[7]", "[0]") + CHAT,
            "p.toml:6: workloads.chat: no GPU is left",
            'write gpus = "none" to run on the CPU, or correct host.gpus and host.reserve',
            id="all-in-reserve",
        ),
        pytest.param(
            HEAD.replace("8x", "1x").replace("[7]", "[]") + CHAT + "gpus = [1]\n",
            "p.toml:10: workloads.chat.gpus: GPU 1 is not on this host, which has only 0",
            GPU_HINT,
            id="gpu-1-of-one",
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
            HEAD + 'runtime = "docker"\n' + CHAT,
            "p.toml:7: workloads.chat: image is missing, and llama.cpp needs one on Docker",
            'add image = "…"',
            id="no-image-on-docker",
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
            HEAD + CHAT + 'memory = "2g"\nmemory_swap = "1g"\n',
            "p.toml:11: workloads.chat.memory_swap: 1 GiB is less than memory (2 GiB)",
            "it counts RAM and swap together: write memory or more",
            id="swap-below-memory",
        ),
        pytest.param(
            HEAD + CHAT + 'gpus = "none"\nreplicas_per_gpu = 2\n',
            "p.toml:11: workloads.chat.replicas_per_gpu: counts replicas on a GPU, and this"
            " workload runs on the CPU",
            "write replicas",
            id="replicas-per-gpu-on-the-cpu",
        ),
        pytest.param(
            HEAD + CHAT + '[watchdog]\nvram = "strikt"\n',
            'p.toml:11: watchdog.vram: "strikt" is not one of corroborate, strict, observe',
            "did you mean strict?",
            id="unknown-vram-mode",
        ),
        pytest.param(
            HEAD + CHAT + '[watchdog]\nbackoff = [0,\n  "x"]\n',
            'p.toml:12: watchdog.backoff[1]: "x" is not a duration',
            SECONDS_HINT,
            id="one-of-a-list-on-its-own-line",
        ),
        pytest.param(
            HEAD + CHAT + "[watchdog]\nbackoff = []\n",
            "p.toml:11: watchdog.backoff: [] is not enough",
            "name at least one, or leave the key out",
            id="empty-backoff",
        ),
        pytest.param(
            HEAD + CHAT + "[watchdog]\nvram_ratio = 10\n",
            "p.toml:11: watchdog.vram_ratio: 10 is not between 0 and 1",
            'write a ratio as "90%" or as 0.9',
            id="percent-as-a-number",
        ),
        pytest.param(
            HEAD + CHAT + '[watchdog]\ninterval = "40s"\n',
            "p.toml:11: watchdog.interval: 40s reaches tick_gap (30s): every failure streak would"
            " be forgotten",
            "set tick_gap to several intervals",
            id="interval-above-the-tick-gap",
        ),
        pytest.param(
            HEAD + CHAT + '[watchdog]\nstartup_limit = "1m"\n',
            "p.toml:11: watchdog.startup_limit: 60s is less than startup (600s)",
            "set it to startup or more",
            id="startup-limit-below-startup",
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


def test_two_mistakes_in_one_key_are_both_told() -> None:
    """A GPU may be off the host, and another in reserve, in one list."""
    assert [message for message, _ in mistakes(f"{HEAD}{CHAT}gpus = [7, 8]\n")] == [
        "p.toml:10: workloads.chat.gpus: GPU 7 is in reserve (host.reserve)",
        "p.toml:10: workloads.chat.gpus: GPU 8 is not on this host, which has 0 to 7",
    ]


def test_a_secret_is_found_beside_another_mistake_and_never_shown() -> None:
    """The value of a variable appears in no message, not even in that of its neighbour."""
    found = mistakes(f'{HEAD}{CHAT}environment = {{ A = 1, DB_PASSWORD = "hunter2" }}\n')
    assert [message.partition(": ")[2] for message, _ in found] == [
        "workloads.chat.environment.A: the value is not a text",
        "workloads.chat.environment.DB_PASSWORD: looks like a secret, and a profile is no place"
        " for one",
    ]
    assert "hunter2" not in str(found)


def test_a_group_is_refused_by_an_engine_that_takes_one_gpu() -> None:
    """Only an engine that says so may span GPUs."""
    engines = {"llama.cpp": replace(ENGINES["llama.cpp"], groups=False)}
    with pytest.raises(ProfileError) as caught:
        profile.loads(f"{HEAD}{CHAT}gpus = [[0, 1]]\n", "p.toml", engines=engines)
    assert caught.value.mistakes == (
        (
            "p.toml:10: workloads.chat.gpus: a replica of llama.cpp takes one GPU, not 2",
            "name the GPUs one by one: [0, 1] instead of [[0, 1]]",
        ),
    )


def test_tensor_parallel_three_on_two_gpus_is_refused() -> None:
    """A group names its GPUs, and the third is not there."""
    text = HEAD.replace("8x P106-100", "2x A6000").replace("[7]", "[]")
    assert mistakes(f"{text}{CHAT}gpus = [[0, 1, 2]]\n") == [
        (
            "p.toml:10: workloads.chat.gpus: GPU 2 is not on this host, which has 0 to 1",
            GPU_HINT,
        )
    ]


def test_what_the_host_has_is_not_guessed() -> None:
    """Without host.gpus any index may be right, and only planning can tell."""
    text = 'schema = 1\n[host]\nname = "rig"\n'
    loaded = profile.loads(f"{text}{CHAT}gpus = [42]\n", "p.toml", engines=ENGINES)
    assert loaded.workloads[0].gpus == ((42,),)
