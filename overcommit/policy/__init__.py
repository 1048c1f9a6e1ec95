"""Policy files: strict YAML to `overcommit.model.policy.Policy`, every fault at once with its position."""
