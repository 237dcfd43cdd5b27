"""The probe's picture: layer x regime heat maps per task, teacher beside control."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmsim_agents.common.regimes import REGIMES
from mmsim_agents.common.tasks import TASKS
from mmsim_agents.teacher.causal import FIELD_GROUPS

if TYPE_CHECKING:
    from mmsim_agents.teacher.probing import ProbeReport


def draw(report: ProbeReport, path: Path) -> None:
    """Draw `report` into the PNG file `path`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [("teacher", report.teacher)]
    if report.control is not None:
        shown.append(("random-weight control", report.control))
    n_layers = len(report.teacher.nfp)
    figure = Figure(figsize=(7.0 * len(shown), 9.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(4, len(shown), squeeze=False, height_ratios=(1, 1, 1, 1.6))
    for c, task in enumerate(TASKS):
        top = max(float(nfp.nfp[:, c].max()) for _, nfp in shown)
        for k, (name, nfp) in enumerate(shown):
            ax = axes[c, k]
            image = ax.imshow(
                nfp.nfp[:, c].T, aspect="auto", cmap="viridis", vmin=0, vmax=top, interpolation="nearest"
            )
            ax.set_yticks(range(3), [f"{r} vol" for r in REGIMES])
            ax.set_title(f"{task}: {name} (each row sums to 1)", fontsize=10)
            for cut in report.cuts if k == 0 else ():
                ax.axvline(cut - 0.5, color="white", linewidth=1.2, linestyle="--")
        figure.colorbar(image, ax=axes[c].tolist(), label="NFP", fraction=0.03, pad=0.01)
    layers = np.arange(n_layers)
    ax = axes[3, -1]
    for c, task in enumerate(TASKS):
        for k, (name, nfp) in enumerate(shown):
            excess = (nfp.intensity - nfp.background)[:, c].mean(1)
            ax.plot(layers, excess, color=f"C{c}", linestyle=("-", ":")[k], label=f"{task}, {name}")
    ax.set_title("intensity above background, mean of regimes", fontsize=10)
    ax.legend(fontsize=7, ncols=len(shown), loc="upper center", bbox_to_anchor=(0.5, -0.24))
    ax.axhline(0, color="0.7", linewidth=0.8)
    if len(shown) > 1:
        ax = axes[3, 0]
        if report.causal is None:
            ax.set_axis_off()
        else:
            for k, group in enumerate(FIELD_GROUPS):
                ax.plot(layers, report.causal[k], label=f"{group} perturbed", color=f"C{k + 3}")
            ax.set_title("teacher, causal reading: relative change, normalised over layers", fontsize=10)
            ax.legend(fontsize=8)
    for ax in axes[3]:
        ax.set_xlabel("layer (0 = embedding)")
        ax.set_xlim(-0.5, n_layers - 0.5)
    held = ", ".join(f"{r} {n}" for r, n in zip(REGIMES, report.teacher.counts, strict=True))
    figure.suptitle(
        f"{report.dataset}: normalized fluorescent probe (mmsim's reconstruction), {report.model_id}\n"
        f"held-out decisions: {held}; dashed: cuts of the layer groups",
        fontsize=11,
    )
    figure.savefig(path, dpi=110)
