"""One file per verb group; `compose` is the only place that knows an adapter."""
