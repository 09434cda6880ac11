"""Is the data what it is taken for: pairs, files, depth, cameras, tracks, and the truth that training will see."""

from stereo4d.data_checks.checking import check_parts
from stereo4d.data_checks.finding import Finding, Verdict

__all__ = ["Finding", "Verdict", "check_parts"]
