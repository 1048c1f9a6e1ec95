"""A KVM host with guests, inside of a virtual machine: what the integration tests run against."""

from integration.lab.errors import HostVmDiedError, LabError, LabTimeoutError
from integration.lab.guests import GuestSpec
from integration.lab.lab import Lab

__all__ = ["GuestSpec", "HostVmDiedError", "Lab", "LabError", "LabTimeoutError"]
