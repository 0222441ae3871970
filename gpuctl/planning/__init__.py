"""A profile and the GPUs of a host in, a Plan out: pure, and the same bytes every time."""

from gpuctl.planning.document import plan_document
from gpuctl.planning.plan import plan

__all__ = ["plan", "plan_document"]
