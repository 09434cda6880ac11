"""What all tests of viewers rest on."""

from collections.abc import Iterator

import pytest
import rerun as rr


@pytest.fixture(autouse=True)
def _strict_rerun() -> Iterator[None]:
    # Without it, wrong shapes only warn and log nothing.
    rr.set_strict_mode(True)
    yield
    rr.set_strict_mode(False)
