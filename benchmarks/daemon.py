"""
What the daemon costs on a real host: 16 containers of a private Docker Engine, 8 fake GPUs under
the real NVML binding, the P106 profile's numbers. Run by `make bench`, as root.

Goals: at most 1 % of one core, and 80 MB resident with the NVML child.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.e2e.host import Host, workload
from tests.rig import images
from tests.rig.dockerd import PrivateEngine

WATCHDOG = """\
interval = "5s"
health_timeout = "3s"
hard_failures = 2
hard = "5s"
vram = "strict"
load_spacing = "0s"
"""
SECONDS = float(os.environ.get("BENCH_SECONDS", "120"))
CPU_GOAL_RATIO = 0.01
RSS_GOAL_BYTES = 80 * 1000**2


def main() -> int:
    with PrivateEngine() as engine:
        client = engine.client()
        images.build(client)
        client.close()
        with Host(engine) as host:
            tables = workload("chat", port=18081) + workload("embed", port=18091)
            host.up(host.profile(tables, watchdog=WATCHDOG))
            return measured(host)


def measured(host: Host) -> int:
    daemon = psutil.Process(host.daemon_pid())
    processes = [daemon, *daemon.children()]
    time.sleep(20)  # the first minute learns baselines; what counts is the rest
    began, used = time.monotonic(), spent(processes)
    time.sleep(SECONDS)
    ratio = (spent(processes) - used) / (time.monotonic() - began)
    memory = sum(process.memory_info().rss for process in processes)
    print(f"replicas 16, interval 5 s, measured over {SECONDS:.0f} s")
    for process in processes:
        name = "daemon" if process is daemon else "NVML child"
        print(f"  {name:10} {process.memory_info().rss / 1000**2:6.1f} MB resident")
    print(f"  CPU    {ratio:8.2%} of a core   goal {CPU_GOAL_RATIO:.0%}")
    print(f"  memory {memory / 1000**2:5.1f} MB            goal {RSS_GOAL_BYTES / 1000**2:.0f} MB")
    return int(ratio > CPU_GOAL_RATIO or memory > RSS_GOAL_BYTES)


def spent(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


if __name__ == "__main__":
    sys.exit(main())
