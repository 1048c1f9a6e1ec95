"""How far a domain may be reclaimed from: as far as it stays within its objective. Pure.

`sample` is what a domain feels, as a share of what its class allows, `rereads` what it reads again of its
disks; `throttle` is what follows from that.
"""

from overcommit.slo.rereads import Reading
from overcommit.slo.samples import SloSample
from overcommit.slo.throttle import Learnt, Throttle

__all__ = ["Learnt", "Reading", "SloSample", "Throttle"]
