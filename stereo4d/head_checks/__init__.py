"""What a head must hold to before it is trusted with training, pipeline and viewer: ``stereo4d check-head``."""

from stereo4d.head_checks.finding import Finding
from stereo4d.head_checks.subject import Subject, find_head
from stereo4d.head_checks.table import CHECKS, check_head

__all__ = ["CHECKS", "Finding", "Subject", "check_head", "find_head"]
