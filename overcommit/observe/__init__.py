"""Reads facts into a `Snapshot`, and monitors accesses. It writes nothing except its own monitors."""
