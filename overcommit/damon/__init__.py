"""The kernel's DAMON: its owners, this program's slots, monitors, and actors that page out.

``tree`` is a kdamond as data, which ``codec`` renders and parses (pure). ``sysfs`` reads and writes the
kernel's files, through the process of ``worker``. ``capabilities`` finds what the kernel offers. ``owners``
and ``pool`` handle ownership. ``schemes`` builds monitors and actors.
"""
