"""Replicas as containers of a Docker Engine; the only package that imports the Docker SDK."""

from gpuctl.adapters.docker.runtime import DockerRuntime

__all__ = ["DockerRuntime"]
