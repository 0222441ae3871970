"""
The headers of model files: a path in, ModelFacts out; never more than a file's head is read.

`cli` looks a workload's model up where it is mounted from, and hands what is found to planning.
"""

from gpuctl.adapters.model_headers.places import place, read

__all__ = ["place", "read"]
