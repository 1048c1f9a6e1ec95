"""Integration tests and the machinery they run on."""
