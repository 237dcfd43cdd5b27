"""Market features, shared by RL, teacher probes and students."""

from mmsim.features.kernels import FEATURES, N_FEATURES, STATE_SIZE, feature_step
from mmsim.features.window import WINDOW, FeatureWindow, feature_rows

__all__ = [
    "FEATURES",
    "N_FEATURES",
    "STATE_SIZE",
    "WINDOW",
    "FeatureWindow",
    "feature_rows",
    "feature_step",
]
