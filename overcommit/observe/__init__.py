"""Collect facts into a `Snapshot`, and watch accesses for a while. Reads only, but for our monitors."""
