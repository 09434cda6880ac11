"""CONTRIBUTING.md names all that plugs in, and draws the arrows that ``test_layers`` holds."""

import inspect
import re
import tomllib
from importlib import import_module
from pathlib import Path

from stereo4d import registry
from tests.house.test_layers import MAY

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_every_group_stands_there_with_its_base_class_and_what_ships():
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    rows = re.findall(r"^\| `(stereo4d\.\w+)` \| `([\w.]+)\.(\w+)`.* \| (.+) \|$", PAGE, re.MULTILINE)
    assert [group for group, *_ in rows] == list(registry.GROUPS) == sorted(shipped)
    for group, module, base, names in rows:
        assert inspect.isabstract(getattr(import_module(module), base))
        assert set(re.sub(r" \(.*?\)", "", names).split(", ")) == set(shipped[group])


def test_arrows_are_those_that_are_held():
    arrows = dict(re.findall(r"(\w+) → ((?:\w+ ?)+)(?:\n|  )", PAGE))
    rooms = {room: set(arrows[room].split()) - {"types"} for room in MAY if room not in ("geometry", "cli")}
    assert rooms == {room: may for room, may in MAY.items() if room in rooms}
