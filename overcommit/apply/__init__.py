"""The only writers: they carry out a plan and restore. Journal first, then write, then verify."""
