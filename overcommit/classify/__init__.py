"""From access snapshots to idle time, and from idle time to hot, warm and cold. Pure."""
