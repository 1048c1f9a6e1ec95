"""Reads policy files: strict YAML to `overcommit.model.policy.Policy`, all faults at once with positions."""
