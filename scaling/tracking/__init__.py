"""Who follows runs while they go: the ledger in the store, and its mirrors."""

from scaling.tracking.choice import check_mirror, make_tracker
from scaling.tracking.curve_file import CurveFile
from scaling.tracking.tracker import Ended, Together, Tracker, is_evaluation

__all__ = ["CurveFile", "Ended", "Together", "Tracker", "check_mirror", "is_evaluation", "make_tracker"]
