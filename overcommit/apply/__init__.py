"""The only writers: carry out a plan and put things back. Journal first, then write, then verify."""
