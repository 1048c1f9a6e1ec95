"""What the program talks about: frozen values, no I/O, no clock. Bytes, seconds, ratios."""
