"""Makes a plan from facts, access frequency and policy.

Pure and deterministic: no clock, no I/O, no randomness.
"""
