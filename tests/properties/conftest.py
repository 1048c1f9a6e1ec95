"""The same hundred examples everywhere: a property that fails in CI fails on the next desk too.

``HYPOTHESIS_PROFILE=search pytest tests/properties`` looks further.
"""

import os

from hypothesis import HealthCheck, Phase, settings

_SLOW_BUT_FINE = [HealthCheck.too_slow]
settings.register_profile(
    "ci",
    derandomize=True,
    max_examples=100,
    deadline=None,
    database=None,
    phases=[
        Phase.explicit,
        Phase.generate,
        Phase.shrink,
    ],  # explaining a failure takes longer than reading it
)
settings.register_profile(
    "search", max_examples=3000, deadline=None, suppress_health_check=_SLOW_BUT_FINE, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
