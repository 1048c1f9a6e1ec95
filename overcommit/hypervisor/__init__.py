"""Libvirt: which domains there are, what they are made of, and their balloons.

`overcommit.hypervisor.libvirt_client` is the only module that imports libvirt.
"""
