"""Merges a policy file with its overrides."""

from __future__ import annotations

from overcommit.policy.yaml_positions import Node


def merge(below: Node, above: Node, *, top: bool = True) -> Node:
    """The merged policy, in which ``above`` overrides ``below``.

    Mappings merge by key. The rules of ``above`` come before those of ``below``, so that they are tried
    first. Anything else is replaced. Each value keeps the position where it was written.
    """
    if not isinstance(below.value, dict) or not isinstance(above.value, dict):
        return above
    merged = dict(below.value)
    for key, node in above.value.items():
        if top and key == "domains" and key in merged:
            merged[key] = _chained(node, merged[key])
        else:
            merged[key] = merge(merged[key], node, top=False) if key in merged else node
    return Node(mark=below.mark, value=merged, keys={**below.keys, **above.keys})


def _chained(first: Node, then: Node) -> Node:
    if not isinstance(first.value, list) or not isinstance(then.value, list):
        return first
    return Node(mark=first.mark, value=[*first.value, *then.value])
