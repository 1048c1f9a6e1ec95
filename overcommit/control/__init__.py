"""The use cases that the CLI and the daemon share, each composed once."""
