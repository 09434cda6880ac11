"""The public names are complete and sorted, and importing them is light."""

import subprocess
import sys
from importlib.metadata import entry_points, version

import pytest

import stereo4d
from stereo4d import registry


def test_every_public_name_is_there():
    for name in stereo4d.__all__:
        assert getattr(stereo4d, name) is not None


def test_public_names_are_sorted_and_say_where_they_live():
    names = [name for name in stereo4d.__all__ if name != "__version__"]
    assert names == sorted(names)
    assert set(names) == set(stereo4d._HOME)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(AttributeError, match="reconstruct"):
        _ = stereo4d.reconstrukt


def test_the_version_is_that_of_the_package():
    assert stereo4d.__version__ == version("stereo4d")


@pytest.mark.parametrize("statement", ["import stereo4d", "from stereo4d import Scene, View, Stereo4DError"])
def test_light_imports_leave_heavy_packages_alone(statement):
    heavy = ["torch", "lightning", "rerun", "cv2", "av", "decord", "timm"]
    check = f"{statement}; import sys; print([name for name in {heavy} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


@pytest.mark.parametrize(
    ("group", "names"),
    [
        ("stereo4d.datasets", {"folder", "stereo4d"}),
        ("stereo4d.heads", {"linear", "dpt", "catmlp+dpt"}),
        ("stereo4d.predictors", {"classical"}),
        ("stereo4d.readers", {"decord", "av", "images"}),
        ("stereo4d.solvers", {"adam"}),
        ("stereo4d.exporters", {"monst3r", "npz", "ply", "tum"}),
        ("stereo4d.flow", {"dis", "raft"}),
        ("stereo4d.masks", {"attention", "ego-flow", "heads", "min-max"}),
        ("stereo4d.terms", {"acceleration", "flow", "still"}),
        ("stereo4d.viewers", {"rerun"}),
    ],
)
def test_shipped_parts_come_in_through_entry_points(group, names):
    assert group in registry.GROUPS
    assert names <= {point.name for point in entry_points(group=group)}
    for name in names:
        assert isinstance(registry.load(group, name), type)
