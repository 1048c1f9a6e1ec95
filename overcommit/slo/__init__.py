"""How far a domain may be reclaimed from: as far as it stays within its objective. Pure.

`feeling` is what a domain feels, as a share of what its class allows, `rereads` what it reads again of its
disks; `grip` is what follows from that.
"""

from overcommit.slo.feeling import Feeling
from overcommit.slo.grip import Grip, Learnt
from overcommit.slo.rereads import Reading

__all__ = ["Feeling", "Grip", "Learnt", "Reading"]
