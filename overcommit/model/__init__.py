"""The values that all packages share: frozen dataclasses, without I/O and without a clock.

Units are bytes, seconds and ratios (0..1).
"""
