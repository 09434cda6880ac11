"""Parts are found by name, and are what their group is for."""

import pytest

from stereo4d import registry
from stereo4d.errors import PluginError, UsageError
from stereo4d.video.frames import Reader
from stereo4d.viewing import Viewer


def test_a_part_is_a_class_that_keeps_the_contract_of_its_group():
    assert issubclass(registry.load_class("stereo4d.readers", "images", Reader), Reader)
    with pytest.raises(PluginError, match=r"which is not a Viewer: derive it from stereo4d\.viewing\.Viewer"):
        registry.load_class("stereo4d.readers", "images", Viewer)


def test_an_option_that_names_nothing_is_refused_with_all_that_it_takes():
    registry.check_installed("--solver", "stereo4d.solvers", "adam")
    with pytest.raises(UsageError, match="--solver 'adman' is not installed; there are reweighted, adam"):
        registry.check_installed("--solver", "stereo4d.solvers", "adman", besides=["reweighted"])


def test_an_option_of_a_group_without_parts_says_that_there_are_none():
    with pytest.raises(UsageError, match="there are none"):
        registry.check_installed("--nose", "stereo4d.noses", "snub")
