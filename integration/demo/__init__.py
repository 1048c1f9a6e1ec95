"""``make demo``: the main job on four real guests, with their own throughput before and after."""
