"""The gateway beside its peers, measured in one run: `python -m benchmarks.gateway`."""
