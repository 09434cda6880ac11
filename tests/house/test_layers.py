"""Imports run down only, and heavy packages have few doors. Read from the source, nothing is imported."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for room in ("stereo4d", "heads/stereo4d_heads", "plugins/stereo4d_plugins")
    for path in (ROOT / room).rglob("*.py")
)
BASE = {
    "errors",
    "exporting",
    "registry",
    "storage",
    "types",
    "motion",
    "progress",
    "scene_files",
    "scene_motion",
    "scene_tracks",
    "viewing",
}
"""Single modules that every room may use; among themselves they are ordered by ``BASE_MAY``."""
MAY = {
    "geometry": set(),
    # the friendly call prepares pictures by the same transforms as everything else
    "network": {"geometry", "data"},
    "data": {"geometry"},
    "alignment": {"geometry"},
    # it measures what the pipeline makes of the synthetic world
    "evaluation": {"geometry", "alignment", "data", "network", "video"},
    # predictions of a trained network are written as the pipeline writes them
    "training": {"network", "data", "geometry", "evaluation", "video"},
    # plan and job read image sizes through the transforms that keep intrinsics right
    "video": {"network", "alignment", "geometry", "data"},
    "downstream": {"geometry"},
    # a head is tried in everything that it will have to do with
    "head_checks": {"network", "data", "geometry", "video"},
    "data_checks": {"data"},
    "cli": {
        *("network", "data", "geometry", "evaluation", "training", "alignment", "video", "downstream"),
        *("head_checks", "data_checks"),
    },
}
BASE_MAY = {
    "errors": set(),
    "registry": {"errors"},
    "storage": {"errors"},
    "progress": set(),
    "motion": {"errors"},
    "types": {"errors", "exporting", "scene_files", "scene_motion", "scene_tracks", "viewing"},
    "scene_motion": {"errors", "scene_tracks", "types"},
    "scene_tracks": {"errors", "types"},
    "scene_files": {"errors", "storage", "types"},
    "viewing": {"errors", "registry", "types"},
    "exporting": {"errors", "registry", "storage", "types"},
}
DOORS = {
    "timm": ("stereo4d/training/",),  # it imports torchvision, seconds that only training can afford
    "lightning": (
        "stereo4d/training/",
        "stereo4d/data/module.py",
        "stereo4d/data/mixed_pairs.py",
        "stereo4d/cli/fit.py",
    ),
    "decord": ("plugins/stereo4d_plugins/readers/",),
    "av": ("plugins/stereo4d_plugins/readers/", "stereo4d/data/synthetic/clip.py"),
    "rerun": ("plugins/stereo4d_plugins/viewers/",),
    "pycolmap": ("plugins/stereo4d_plugins/peers/colmap_process.py",),
    "jsonargparse": ("stereo4d/cli/",),
    "huggingface_hub": ("stereo4d/network/weights/",),
    # choosing looks at a few frames, by optical flow, to tell which predictor suits a clip
    "cv2": (
        "stereo4d/geometry/pnp.py",
        "stereo4d/video/choosing.py",
        "stereo4d/video/flow.py",
        "plugins/stereo4d_plugins/",
    ),
}


def imports(path: Path) -> list[tuple[str, bool]]:
    """(dotted name, at module level) of everything a file imports, typing-only imports left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []

    def visit(node: ast.AST, top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                found.extend((name.name, top) for name in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}:{child.lineno} imports relatively"
                found.extend((f"{child.module}.{name.name}", top) for name in child.names)
            visit(child, top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef))

    visit(tree, True)
    return found


def rooms_used(path: Path) -> set[str]:
    """Rooms and base modules of the core that a file imports."""
    return {name.split(".")[1] for name, _ in imports(path) if name.startswith("stereo4d.")}


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "stereo4d").parts
    return parts[0] if len(parts) > 1 else path.stem


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_down(path):
    used = rooms_used(path)
    if path.is_relative_to(ROOT / "heads"):
        assert used <= {"network", "geometry", "types", "errors", "motion"}
        contracts = {name for name, _ in imports(path) if name.startswith("stereo4d.network.")}
        assert {name.split(".")[2] for name in contracts} <= {
            "convolution",
            "head",
            "layers",
            "motion_errors",
            "objective",
            "pooling",
        }
        return
    if path.is_relative_to(ROOT / "plugins"):
        assert not any(name.startswith("stereo4d_heads") for name, _ in imports(path))
        assert used <= BASE | {"geometry", "video", "alignment", "data", "evaluation"}
        return
    assert not any(name.startswith(("stereo4d_heads", "stereo4d_plugins")) for name, _ in imports(path))
    room = room_of(path)
    if room == "__init__":
        return
    allowed = BASE_MAY[room] if room in BASE_MAY else MAY[room] | BASE | {room}
    assert used <= allowed | {"__version__"}, f"{path.relative_to(ROOT)} reaches up to {sorted(used - allowed)}"


@pytest.mark.parametrize("package", DOORS)
def test_heavy_packages_have_few_doors(package):
    for path in SOURCES:
        if any(name == package or name.startswith(f"{package}.") for name, _ in imports(path)):
            place = str(path.relative_to(ROOT))
            assert place.startswith(DOORS[package]), f"{place} imports {package}"


def test_every_room_is_known():
    rooms = {path.name for path in (ROOT / "stereo4d").iterdir() if (path / "__init__.py").exists()}
    assert rooms <= set(MAY) | {"assets", "configs"}
    modules = {path.stem for path in (ROOT / "stereo4d").glob("*.py")} - {"__init__", "__main__"}
    assert modules <= set(BASE_MAY)
