"""What the teacher hands to the distillation: sampled decisions with features, predictions and probe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmsim_agents.teacher.heads import Heads
from mmsim_agents.teacher.nfp import Nfp


@dataclass(frozen=True)
class SampleSet:
    """Sampled decisions of one split, in time order; n samples, L = transformer layers + 1, width d.

    Attributes
    ----------
    index : (n,) int64
        Rows of ``np.concatenate(raw_per_episode)`` that were sampled (all have a full prompt window
        inside their episode and a finite target).
    episode : (n,) int64
        Episode of each sample; ``offset = index - start_of_episode`` is its decision number.
    hidden : (n, L, d) float16
        Hidden states, standardised with the TRAIN ``mu`` and ``sigma`` of `TeacherArtifacts`
        (zero where a dimension is constant on TRAIN, e.g. the whole of layer 0 with last-token pooling).
    target : (n, 3) float64
        Realised dm (ticks), s (ticks), v (log1p of units), see ``mmsim_agents.common.tasks``.
    predict : (n, 3) float64
        The teacher's prediction of them, same units. On TRAIN they are cross-fitted (each time fold is
        predicted by heads that did not see it), so they do not leak the labels.
    regime : (n,) int8
        0, 1, 2 = low, mid, high trailing volatility, thresholds from TRAIN.
    """

    index: npt.NDArray[np.int64]
    episode: npt.NDArray[np.int64]
    hidden: npt.NDArray[np.floating]
    target: npt.NDArray[np.float64]
    predict: npt.NDArray[np.float64]
    regime: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class TeacherArtifacts:
    """Everything a distillation needs of the teacher, made by ``teacher.prepare.prepare_teacher``.

    Attributes
    ----------
    train, validation : SampleSet
        Samples of the two splits.
    mu, sigma : (L, d) float32
        Standardisation fitted on the TRAIN samples: ``h~ = (h - mu) / sigma``; sigma is infinite (so
        h~ = 0) where a dimension is constant.
    nfp : (L, 3, 3) float64
        Normalized fluorescent probe, axes (layer, task, regime); every column sums to 1 over layers.
        Measured inside TRAIN only.
    cuts : (int, int)
        Layer groups: shallow = ``range(0, i)``, middle = ``range(i, j)``, deep = ``range(j, L)``.
    thresholds : (2,) float64
        Volatility thresholds of the regimes (ticks per decision), see ``mmsim_agents.common.regimes``.
    span : int
        Span of the trailing volatility, decisions.
    heads : Heads
        The teacher's three ridge heads; ``heads.save(folder)`` writes ``teacher.safetensors``.
    probe : Nfp
        The full probe result (intensities, backgrounds) behind ``nfp``.
    model_id, template, pool : str
        What the features were made with.
    """

    train: SampleSet
    validation: SampleSet
    mu: npt.NDArray[np.float32]
    sigma: npt.NDArray[np.float32]
    nfp: npt.NDArray[np.float64]
    cuts: tuple[int, int]
    thresholds: npt.NDArray[np.float64]
    span: int
    heads: Heads
    probe: Nfp
    model_id: str
    template: str
    pool: str

    def group_layers(self, group: int) -> range:
        """Layers of group 0 (shallow), 1 (middle) or 2 (deep)."""
        edges = (0, *self.cuts, len(self.mu))
        return range(edges[group], edges[group + 1])

    def group_target(self, samples: SampleSet, group: int, task: int, regime: int) -> npt.NDArray[np.float32]:
        """Mean of the standardised hidden states over a layer group, weighted by the probe.

        Returns
        -------
        (n, d) float32
            ``sum_l w_l h~_l`` with ``w_l = nfp[l, task, regime] / sum over the group`` (equal weights
            if the group's probe mass is zero). mmsim's reconstruction of the CMM feature target.
        """
        layers = self.group_layers(group)
        w = self.nfp[layers.start : layers.stop, task, regime]
        total = w.sum()
        w = w / total if total > 0 else np.full(len(layers), 1.0 / len(layers))
        out = np.zeros((len(samples), samples.hidden.shape[2]), np.float32)
        for weight, layer in zip(w, layers, strict=True):
            if weight > 0:
                out += np.float32(weight) * samples.hidden[:, layer].astype(np.float32)
        return out
