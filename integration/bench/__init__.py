"""Measurements on real guests: they print figures and judge nothing."""
