"""The `kairay` command: one file per command."""
