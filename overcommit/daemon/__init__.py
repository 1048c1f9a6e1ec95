"""``overcommitd``: the same flow as the verbs, again and again, with memory of what it saw before."""
