"""One file each; found by name, never imported by each other."""
