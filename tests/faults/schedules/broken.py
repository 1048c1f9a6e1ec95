"""What a schedule finds."""


class Broken(AssertionError):
    """A rule was broken."""
