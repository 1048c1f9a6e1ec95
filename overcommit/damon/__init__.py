"""The kernel's DAMON: who owns it, our slots in it, monitors that look and actors that page out.

``tree`` renders and parses (pure), ``sysfs`` speaks to the kernel, ``owners`` and ``pool`` decide whose it
is, ``watch`` and ``pageout`` say what a monitor and an actor are made of.
"""
