"""The ladder: the mechanisms that take memory from one domain, in a fixed order, cheapest first."""
