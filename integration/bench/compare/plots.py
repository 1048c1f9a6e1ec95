"""The curves as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from integration.bench.compare.controllers import CONTROLLERS
from integration.bench.compare.curve import envelope
from integration.bench.compare.report import PAINS, points
from integration.bench.compare.results import merged


def draw(rows: Sequence[dict[str, Any]], directory: Path) -> list[str]:
    """One SVG for each scenario; returns their names, none where matplotlib is missing."""
    try:
        import matplotlib as mpl
        from matplotlib import pyplot as plt
    except ModuleNotFoundError:
        return []
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "overcommit"
    names = []
    for scenario in dict.fromkeys(row["scenario"] for row in rows):
        here = [row for row in merged(rows) if row["scenario"] == scenario]
        if not here:
            continue
        figure, axes = plt.subplots(1, len(PAINS), figsize=(5 * len(PAINS), 4.5), sharey=True)
        for (pain, shown), axis in zip(PAINS.items(), axes, strict=True):
            for name, each in points(here, pain).items():
                best = envelope(each)
                line = axis.plot(
                    [p.pain for p in best], [p.saved for p in best],
                    linestyle="-" if CONTROLLERS[name].ours else "--", label=name,
                )  # fmt: skip
                axis.scatter([p.pain for p in each], [p.saved for p in each], color=line[0].get_color())
            axis.set_xlabel(shown)
            axis.set_xscale("symlog" if pain != "lost" else "linear")
        axes[0].set_ylabel("saved, MiB")
        axes[-1].legend(fontsize="small")
        figure.suptitle(scenario)
        figure.tight_layout()
        names.append(f"{scenario}.svg")
        figure.savefig(directory / names[-1], metadata={"Date": None})
        plt.close(figure)
    return names
