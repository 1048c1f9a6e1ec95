"""The rungs of the ladder: what each way of taking memory could take from one domain, cheapest first."""
