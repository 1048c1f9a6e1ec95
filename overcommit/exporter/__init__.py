"""``overcommit-exporter``: what overcommitd tells, as metrics for Prometheus.

A process of its own, beside the command line and the daemon: the daemon has no network. All that it reads is
the status document, over the control socket.
"""
