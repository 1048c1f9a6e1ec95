"""The kernel's DAMON: who owns it, our slots in it, monitors that look and actors that page out.

``tree`` is a kdamond as data, which ``codec`` renders and parses (pure); ``sysfs`` speaks to the kernel,
through the process of ``worker``; ``capabilities`` is what it offers; ``owners`` and ``pool`` decide whose
it is; ``schemes`` says what a monitor and an actor are made of.
"""
