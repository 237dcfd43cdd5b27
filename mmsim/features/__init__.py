"""Market features, shared by RL, teacher probes and students."""

from mmsim.features.market import FEATURES, N_FEATURES
from mmsim.features.window import WINDOW, FeatureWindow, Seen, feature_rows

__all__ = ["FEATURES", "N_FEATURES", "WINDOW", "FeatureWindow", "Seen", "feature_rows"]
