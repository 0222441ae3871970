"""Status and Events in, tables and text out. Nothing here reads a file or a clock."""
