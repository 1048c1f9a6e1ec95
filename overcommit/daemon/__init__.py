"""``overcommitd``: the daemon. It repeats the flow of the verbs, and keeps what it saw between ticks."""
