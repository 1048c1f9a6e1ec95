"""The control socket between the daemon and the CLI: protocol, server and client."""
