"""The learning rate over training."""

from pathlib import Path

import numpy as np
import pytest

from stereo4d.errors import UsageError
from stereo4d.training.schedules import HalfCosine, Plateau

GOLDEN = Path(__file__).parents[1] / "golden" / "losses.npz"


def test_half_cosine_equals_the_stored_rates():
    with np.load(GOLDEN) as stored:
        epochs, rates = stored["lr_epochs"], stored["lr_values"]
    steps = 840  # to an epoch: every stored fraction of an epoch is a whole step of so many
    schedule = HalfCosine(warmup_steps=15 * steps, min_rate=1e-6)
    for epoch, rate in zip(epochs, rates, strict=True):
        step = epoch * steps
        assert schedule.rate(step, 90 * steps, 1e-4) == pytest.approx(float(rate), rel=1e-5, abs=1e-12)


def test_plateau_warms_up_stays_and_falls_to_nothing():
    schedule = Plateau(warmup_steps=10, cooldown_share=0.5)
    rates = [schedule.rate(step, 100, 2.0) for step in range(101)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == rates[50] == 2.0
    assert rates[75] == pytest.approx(1.0)
    assert rates[100] == 0.0
    assert schedule.rate(10**6, None, 2.0) == 2.0


def test_shares_and_steps_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match=r"cooldown_share 1\.5"):
        Plateau(cooldown_share=1.5)
    with pytest.raises(UsageError, match="warmup_steps -1"):
        HalfCosine(warmup_steps=-1)
