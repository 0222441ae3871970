"""state.db, the journal of Events, and status.json beside it: the Store port, and its readers."""

from gpuctl.adapters.sqlite.rows import Wanted, read_events, stream_events
from gpuctl.adapters.sqlite.store import SqliteStore

__all__ = ["SqliteStore", "Wanted", "read_events", "stream_events"]
