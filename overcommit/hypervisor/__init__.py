"""Libvirt: the running domains, their definitions, and their balloons.

Only `overcommit.hypervisor.libvirt_client` imports libvirt.
"""
