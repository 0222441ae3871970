"""Does a Docker Engine answer, and is it set up to carry models through its own restarts?"""

from __future__ import annotations

from collections.abc import Iterator

from gpuctl.diagnosis.facts import DaemonJson, DockerFacts, DriverFacts, Facts, Unread
from gpuctl.diagnosis.finding import Finding, Group, fail, needing, ok, skip, warn

_NAMES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "riscv64": "riscv64"}
#: Slow, and without a limit of a container's disk: what the others are for.
_POOR_STORAGE = ("vfs", "devicemapper", "aufs")
#: Of Docker 20.10. Source: Docker Engine API, version history.
_LEAST_API = (1, 41)
_FILE = "/etc/docker/daemon.json"


def engine(facts: Facts) -> Iterator[Finding]:
    """Judge whether it answers; where the profile wants processes, nobody asks."""
    found = facts.docker
    profile = facts.wanted.profile if facts.wanted else None
    only = facts.wanted.in_docker_only if facts.wanted else ()
    # A profile that leaves its runtime open gets processes where no engine answers.
    asked = profile is not None and profile.host.runtime == "docker"
    wrong = fail if asked or only else warn
    if profile is not None and profile.host.runtime == "process":
        yield skip("engine", "replicas run as processes of this host")
    elif not isinstance(found, Unread) and _numbers(found.api_version) < _LEAST_API:
        least = ".".join(map(str, _LEAST_API))
        message = f"Docker {found.version} speaks API {found.api_version}, gpuctl {least} and later"
        yield fail("engine", "docker_old", message, "upgrade Docker to 20.10 or later")
    elif not isinstance(found, Unread):
        kind = ", rootless" if found.rootless else ""
        yield ok("engine", f"Docker {found.version}, API {found.api_version}{kind}")
    elif found.reason == "no_permission":
        fix = "sudo usermod -aG docker $USER, then log in again; or use sudo"
        yield wrong("engine", "docker_denied", found.message, fix)
    elif found.reason == "no_answer":
        yield wrong("engine", "docker_silent", found.message, "sudo systemctl restart docker")
    elif found.reason == "absent":
        without = f"{', '.join(only)} cannot run" if only else "replicas run as processes"
        fix = f"sudo systemctl start docker; without Docker, {without}"
        yield wrong("engine", "docker_absent", found.message, fix)
    else:
        yield skip("engine", found.message, found.reason, found.hint)


def daemon_reload(docker: DockerFacts, facts: Facts) -> Iterator[Finding]:
    """
    Judge whether `systemctl daemon-reload` takes running containers' GPUs away.

    It does where systemd keeps the cgroups and the devices come by the runtime hook, which
    systemd knows nothing of; CDI, or links in /dev/char, mend it. Without its own hook, the
    engine leaves CDI alone. Source: NVIDIA/nvidia-container-toolkit#48, moby/moby#50228.
    """
    driver = facts.driver
    described = not isinstance(facts.cdi, Unread) and bool(facts.cdi.specs)
    hooked = not isinstance(facts.toolkit, Unread) and facts.toolkit.cdi_hook is not None
    if not facts.wants_gpus:
        yield skip("daemon_reload", "no container is to have a GPU")
    elif docker.cgroup_driver != "systemd":
        yield ok("daemon_reload", f"the cgroup driver is {docker.cgroup_driver}: no harm")
    elif docker.by_cdi and described and hooked:
        yield ok("daemon_reload", "devices come by CDI: no harm")
    elif isinstance(driver, DriverFacts) and driver.devices and driver.char_links:
        yield ok("daemon_reload", "/dev/char has links to the devices: no harm")
    else:
        message = (
            "cgroup driver systemd, and devices by the runtime hook: each `systemctl "
            "daemon-reload` takes the GPUs away from running containers"
        )
        fix = (
            "sudo nvidia-ctk system create-dev-char-symlinks --create-all (at each boot); or CDI, "
            "by Docker 29 or newer with nvidia-cdi-hook and a specification; or "
            f'{{ "exec-opts": ["native.cgroupdriver=cgroupfs"] }} in {_FILE}'
        )
        yield warn("daemon_reload", "daemon_reload_trap", message, fix)


def live_restore(docker: DockerFacts, facts: Facts) -> Iterator[Finding]:
    """Judge whether replicas outlive a restart or an upgrade of the engine."""
    if docker.live_restore:
        yield ok("live_restore", "on: replicas run on while Docker restarts")
    else:
        message = "off: a restart or an upgrade of Docker ends every replica"
        fix = f'{{ "live-restore": true }} in {_FILE}, then `sudo systemctl reload docker`'
        yield warn("live_restore", "live_restore_off", message, fix)


def storage(docker: DockerFacts, facts: Facts) -> Iterator[Finding]:
    """Judge how images are stored."""
    if docker.storage_driver in _POOR_STORAGE:
        message = f"{docker.storage_driver}: slow, and images take their size many times over"
        fix = f'{{ "storage-driver": "overlay2" }} in {_FILE}; images must be pulled again'
        yield warn("storage", "storage_driver", message, fix)
    else:
        yield ok("storage", docker.storage_driver)


def logs(docker: DockerFacts, facts: Facts) -> Iterator[Finding]:
    """Judge the logs of other containers: gpuctl bounds those of its own."""
    config = docker.config
    if docker.logging_driver != "json-file":
        yield ok("logs", f"the log driver is {docker.logging_driver}")
    elif isinstance(config, Unread):
        yield skip("logs", config.message, config.reason, config.hint)
    elif config.broken:
        yield skip("logs", f"{config.path} tells nothing")
    elif config.log_max_size:
        yield ok("logs", "json-file, with a limit")
    else:
        message = "json-file without max-size: a container that is not gpuctl's can fill the disk"
        fix = (
            '{ "log-driver": "local" }, or { "log-opts": { "max-size": "50m", "max-file": "3" } }, '
            f"in {_FILE}, then `sudo systemctl restart docker`"
        )
        yield warn("logs", "logs_unbounded", message, fix)


def configuration(docker: DockerFacts, facts: Facts) -> Iterator[Finding]:
    """Judge the configuration file itself: a broken one keeps the engine from its next start."""
    config = docker.config
    if isinstance(config, Unread):
        yield skip("configuration", config.message, config.reason, config.hint)
    elif config.broken:
        message = f"{config.path} is broken ({config.broken}): Docker will not start again"
        yield fail("configuration", "daemon_json_broken", message, f"python3 -m json.tool {_FILE}")
    else:
        yield ok("configuration", config.path if config.there else f"no {config.path}: defaults")


def loopback(docker: DockerFacts, facts: Facts) -> Iterator[Finding]:
    """Judge whether ports published on 127.0.0.1 can be reached, which is how gpuctl probes."""
    proxied = not isinstance(docker.config, DaemonJson) or docker.config.userland_proxy
    if not docker.forwarding:
        message = "the kernel does not forward IPv4: published ports do not answer"
        yield fail("loopback", "no_forwarding", message, "sudo sysctl -w net.ipv4.ip_forward=1")
    elif not proxied and docker.loopback_routed is False:
        message = "no userland proxy, and docker0 does not route loopback: 127.0.0.1 cannot answer"
        fix = "sudo sysctl -w net.ipv4.conf.docker0.route_localnet=1"
        yield fail("loopback", "loopback_not_routed", message, fix)
    else:
        yield ok("loopback", "by docker-proxy" if proxied else "by rules of the kernel")


def default_runtime(docker: DockerFacts, facts: Facts) -> Iterator[Finding]:
    """Judge what containers get that ask for no GPU."""
    if docker.default_runtime == "nvidia":
        message = "nvidia: CUDA images see every GPU, also in containers that asked for none"
        fix = f'take "default-runtime" out of {_FILE}, then `sudo systemctl restart docker`'
        yield warn("default_runtime", "default_runtime_nvidia", message, fix)
    else:
        yield ok("default_runtime", docker.default_runtime)


def rootless(docker: DockerFacts, facts: Facts) -> Iterator[Finding]:
    """Judge a rootless engine: NVIDIA's hook needs to leave the cgroups alone there."""
    if docker.rootless and facts.wants_gpus:
        message = "a rootless engine hands GPUs over only where the toolkit leaves cgroups alone"
        fix = (
            "sudo nvidia-ctk config --set nvidia-container-cli.no-cgroups --in-place, then "
            "`systemctl --user restart docker`"
        )
        yield warn("rootless", "rootless", message, fix)
    else:
        yield skip("rootless", "the engine has root, or no GPU to hand over")


def images(docker: DockerFacts, facts: Facts) -> Iterator[Finding]:
    """Judge those of the profile's images that are here: architecture and CUDA."""
    if not docker.images:
        yield skip("images", "none of the profile's images is on this host yet")
        return
    own = _NAMES.get(docker.architecture, docker.architecture)
    foreign = {n: i.architecture for n, i in docker.images.items() if i.architecture != own}
    cuda = _cuda(facts)
    newer = {
        name: image.cuda_version
        for name, image in docker.images.items()
        # Within a major version any driver of that major runs it. Source: CUDA compatibility
        # guide, minor version compatibility.
        if cuda and image.cuda_version and image.cuda_version[0] > cuda[0]
    }
    for name, architecture in foreign.items():
        message = f"{name} is for {architecture}, and this host is {own}"
        fix = f"docker pull --platform linux/{own} {name}"
        yield fail("images", "image_architecture", message, fix)
    for name, version in newer.items():
        message = "{} needs CUDA {}.{}, and the driver serves {}.{}".format(
            name, *version, *(cuda or (0, 0))
        )
        fix = "upgrade the driver, or take the image of an older CUDA: `gpuctl plan` says which"
        yield fail("images", "image_cuda", message, fix)
    if not foreign and not newer:
        yield ok("images", f"{len(docker.images)} of the profile's are here, for {own}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _cuda(facts: Facts) -> tuple[int, int] | None:
    gpus = () if isinstance(facts.gpus, Unread) else facts.gpus
    told = (gpu.facts.cuda_version for gpu in gpus if gpu.facts is not None)
    return next((version for version in told if version is not None), None)


GROUP = Group(
    name="docker",
    checks=(
        engine,
        needing("docker", "daemon_reload", daemon_reload),
        needing("docker", "live_restore", live_restore),
        needing("docker", "storage", storage),
        needing("docker", "logs", logs),
        needing("docker", "configuration", configuration),
        needing("docker", "loopback", loopback),
        needing("docker", "default_runtime", default_runtime),
        needing("docker", "rootless", rootless),
        needing("docker", "images", images),
    ),
)
