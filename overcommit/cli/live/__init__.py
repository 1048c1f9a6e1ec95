"""What ``overcommitctl top`` is made of: a pure core, the terminal, and who asks the daemon."""
