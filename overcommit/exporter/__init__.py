"""``overcommit-exporter``: the state of overcommitd as metrics for Prometheus.

It is a separate process, because the daemon has no network. It reads the status document over the control
socket, and nothing else.
"""
