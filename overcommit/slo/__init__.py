"""How much may be taken from a domain while it stays within its SLO. Pure.

`samples` has a domain's SLO figures as shares of its class's bounds, `rereads` the file cache that it reads
again from its disks, and `throttle` the limits that follow.
"""

from overcommit.slo.rereads import Reading
from overcommit.slo.samples import SloSample
from overcommit.slo.throttle import Learnt, Throttle

__all__ = ["Learnt", "Reading", "SloSample", "Throttle"]
