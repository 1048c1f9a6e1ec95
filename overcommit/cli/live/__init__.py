"""The parts of ``overcommitctl top``: a pure core, the terminal, and the requests to the daemon."""
