"""From facts, heat and policy to a plan. Pure and deterministic: no clock, no I/O, no randomness."""
