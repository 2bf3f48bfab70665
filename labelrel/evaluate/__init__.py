"""How good is it: accuracy, reliability of a score, calibration, PGR, and an interval around each.

Arrays in, numbers out. Nothing here knows about models, tables or files, and nothing is random
without a seed. What cannot be computed is None, never 0.
"""

from labelrel.evaluate.bootstrap import Interval, interval, paired_difference, pgr_interval
from labelrel.evaluate.calibration import brier, calibration_bins, ece
from labelrel.evaluate.metrics import accuracy, augrc, aurc, auroc, e_aurc, pgr, risk_coverage
from labelrel.evaluate.reliability import reliability_metrics, risk_coverage_interval

__all__ = [
    "Interval",
    "accuracy",
    "augrc",
    "aurc",
    "auroc",
    "brier",
    "calibration_bins",
    "e_aurc",
    "ece",
    "interval",
    "paired_difference",
    "pgr",
    "pgr_interval",
    "reliability_metrics",
    "risk_coverage",
    "risk_coverage_interval",
]
