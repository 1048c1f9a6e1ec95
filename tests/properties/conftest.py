"""The same hundred examples everywhere; `tests.profiles` has the others."""

from tests import profiles

profiles.load()
