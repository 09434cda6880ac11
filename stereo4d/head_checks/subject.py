"""The head under check: found by name or by class, built once, known by what it declares."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stereo4d import registry
from stereo4d.errors import PluginError, Stereo4DError
from stereo4d.network.config import HeadChoice, StereoConfig
from stereo4d.network.head import GROUP, BackboneDims, Head, TimedHead, build_head, load_head

NARROW = StereoConfig(
    img_size=(48, 64),
    enc_embed_dim=48,
    enc_depth=1,
    enc_num_heads=2,
    dec_embed_dim=32,
    dec_depth=4,
    dec_num_heads=2,
    landscape_only=False,
)
"""Encoder and decoder differ in width, so that a head that mixes them up is found out."""


def dims_of(config: StereoConfig) -> BackboneDims:
    """What a head is told of a network."""
    return BackboneDims(config.patch_size, config.enc_embed_dim, config.dec_embed_dim, config.dec_depth)


@dataclass(frozen=True)
class Subject:
    """An installed head and the options to build it with."""

    name: str
    """Of its entry point."""
    options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def kind(self) -> type[Head] | type[TimedHead]:
        """Its class."""
        return load_head(self.name)

    @cached_property
    def sample(self) -> Head | TimedHead:
        """One of it, built for the narrow backbone."""
        return build_head(self.name, dims_of(NARROW), self.options)

    @property
    def is_timed(self) -> bool:
        """Whether it takes query times."""
        return issubclass(self.kind, TimedHead)

    @property
    def is_main(self) -> bool:
        """Whether it can be a network's main head, and so is checked as one."""
        shapes = {output.name: output.shape for output in self.sample.outputs}
        return not self.is_timed and shapes.get("pointmap") == (3,) and shapes.get("confidence") == ()

    def choice(self, *, shared: bool = False) -> HeadChoice:
        """It as a head beside a main one."""
        return HeadChoice(self.name, self.options, shared)

    def as_main(self, config: StereoConfig) -> StereoConfig:
        """The config with it as the main head."""
        # the network's default is for pointmaps alone, a head's own default for whatever it writes
        mode = inspect.signature(self.kind).parameters.get("output_mode")
        described = {} if mode is None or mode.default is mode.empty else {"output_mode": mode.default}
        return replace(config, head_type=self.name, head_options=dict(self.options), **described)


@contextmanager
def find_head(target: str, *, options: Mapping[str, Any], name: str | None = None) -> Iterator[Subject]:
    """The head that a name or a class means, installed for as long as the block runs.

    Args:
        target: an installed entry point, or ``module:Class``, the module found as Python finds it.
        options: of its constructor.
        name: of a class, the name of its entry point; by default that of the class, in lower case with underscores.

    Raises:
        PluginError: there is no such head, it cannot be imported or built, or its name is taken.
    """
    if ":" not in target:
        yield _tried(Subject(target, options))
        return
    with TemporaryDirectory(prefix="stereo4d-head-") as folder:
        found = _installed_name(target) if name is None else None
        chosen = found or name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", target.rpartition(":")[2]).lower()
        if found is None:
            _install(target, chosen, Path(folder))
        sys.path.insert(0, folder)
        try:
            yield _tried(Subject(chosen, options))
        finally:
            sys.path.remove(folder)


def _tried(subject: Subject) -> Subject:
    """The subject, if it can be built.

    Raises:
        PluginError: it cannot.
    """
    try:
        subject.sample  # noqa: B018
    except PluginError:
        raise
    except Stereo4DError as error:
        raise PluginError(f"{error}; mend the constructor, or give other --options") from error
    except Exception as error:  # a stranger's constructor may raise anything
        raise PluginError(f"head {subject.name!r} cannot be built: {type(error).__name__}: {error}") from error
    return subject


def _installed_name(target: str) -> str | None:
    return next((name for name, point in registry.installed(GROUP).items() if point.value == target), None)


def _install(target: str, name: str, folder: Path) -> None:
    """Write the entry point that a package with this head would bring."""
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", target):
        raise PluginError(f"head {target!r} must be an installed entry point, or module:Class")
    if not re.fullmatch(r"[\w.+-]+", name):
        raise PluginError(f"head {target}: {name!r} cannot name an entry point; take letters, digits and _")
    for package, value in registry.claimed_by(GROUP, name).items():
        raise PluginError(
            f"head {target}: the name {name!r} is taken by {package} ({value}); names of heads are given once: choose "
            "another with --name, and in your pyproject.toml"
        )
    metadata = folder / "stereo4d_head_under_check-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stereo4d-head-under-check\nVersion: 0\n")
    (metadata / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {target}\n")
