"""gpuctl keeps one inference container per GPU serving, and can say why it did what it did."""

__version__ = "0.1.0"
