"""How far Hypothesis looks: ``HYPOTHESIS_PROFILE`` names one of these, ``ci`` where it is not set.

- ``ci``: the same hundred examples everywhere: a property that fails in CI fails on the next desk too.
- ``search``: further, once: ``HYPOTHESIS_PROFILE=search pytest tests/properties``.
- ``fuzz``: one batch of what ``make fuzz`` repeats (`tests.fuzz.repeating`), each with a seed of its own.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis.database import DirectoryBasedExampleDatabase

VARIABLE = "HYPOTHESIS_PROFILE"
CORPUS = "OVERCOMMIT_FUZZ_CORPUS"
"""The environment variable with the directory of what was found: each finding is tried again first."""


def load() -> None:
    """Make the profile that the environment asks for the one that is used."""
    settings.register_profile(
        "ci",
        derandomize=True,
        max_examples=100,
        deadline=None,
        database=None,
        # explaining a failure takes longer than reading it
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )
    settings.register_profile(
        "search",
        derandomize=False,
        max_examples=3000,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        print_blob=True,
    )
    corpus = os.environ.get(CORPUS)
    settings.register_profile(
        "fuzz",
        derandomize=False,  # said, because what is left out comes from the profile before
        max_examples=5000,  # Hypothesis remembers each example of a batch: more take its memory, not ours
        deadline=None,
        database=DirectoryBasedExampleDatabase(corpus) if corpus else None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink],
    )
    settings.load_profile(os.environ.get(VARIABLE, "ci"))
