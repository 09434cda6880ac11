"""Everything that a head must hold to, in the order in which it is tried."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from stereo4d.errors import Stereo4DError
from stereo4d.head_checks import holding, learning, using, writing
from stereo4d.head_checks.finding import Check, Finding
from stereo4d.head_checks.lab import Fault, Lab, NotApplicable
from stereo4d.head_checks.subject import Subject

CHECKS = (
    Check("declared", "outputs are declared so that pipeline and viewer can use them", writing.declares, basic=True),
    Check("dims", "its widths are those that the network hands over", writing.takes_dims, basic=True),
    Check("written", "what is declared is written, on any grid and batch", writing.writes, basic=True),
    Check("repeated", "the same tokens give the same maps", writing.repeats_itself),
    Check("one by one", "an image's maps do not depend on its batch", writing.one_by_one),
    Check("query times", "several times are answered as each alone", writing.at_several_times),
    Check("side by side", "other heads beside it change nothing", holding.side_by_side),
    Check("half precision", "a bfloat16 backbone leaves it float32 and finite", holding.half_precision),
    Check("real tokens", "tokens of trained networks' size give finite maps", holding.realistic_tokens),
    Check("files", "saved and loaded it says the same", holding.files),
    Check("gradients", "what may learn gets gradients, what is frozen none", learning.gradients),
    Check("objective", "it is finite and moves every parameter", learning.has_an_objective),
    Check("processes", "two processes train it together", learning.in_processes),
    Check("pipeline", "a clip becomes a scene, its maps stored", using.in_the_pipeline),
    Check("viewer", "the scene's recording is whole", using.in_the_viewer),
)


def check_head(subject: Subject) -> Iterator[Finding]:
    """Try a head with every check, one after the other; when a basic one fails, the rest is not tried.

    Args:
        subject: see ``find_head``.
    """
    failed = ""
    with TemporaryDirectory(prefix="stereo4d-check-") as folder, _quiet():
        lab = Lab(subject, Path(folder))
        for check in CHECKS:
            if failed:
                yield Finding(check.name, "not applicable", f"waits for {failed!r}")
                continue
            finding = examine(check, lab)
            yield finding
            if finding.verdict == "failed" and check.basic:
                failed = check.name


def examine(check: Check, lab: Lab) -> Finding:
    """What one check finds; whatever a stranger's head raises is a finding."""
    try:
        return Finding(check.name, "ok", check.run(lab))
    except NotApplicable as reason:
        return Finding(check.name, "not applicable", str(reason))
    except (Fault, Stereo4DError) as error:
        said = str(error)
    except Exception as error:
        said = f"{check.rule}: {type(error).__name__}: {error}"
    named = said if said.startswith("head ") else f"head {lab.subject.name!r} ({lab.subject.kind.__name__}): {said}"
    return Finding(check.name, "failed", " ".join(named.split()))


@contextmanager
def _quiet() -> Iterator[None]:
    """Networks that have learned nothing give the pipeline much to warn of."""
    logger = logging.getLogger("stereo4d")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
