"""Memory returned to the host against what it costs the guests: this product and everybody else.

``make bench`` and ``make bench-quick``; `docs/benchmarks/README.md` says how to read the report.
"""
