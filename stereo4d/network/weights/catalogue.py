"""What is published of this family: names, where each lies, its size and checksum, and what may be done with it.

Nothing of it is shipped or copied by stereo4d; ``fetch`` takes it from where its authors put it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

PUBLISHED_LICENCE = "CC BY-NC-SA 4.0 (non-commercial), and the licences of the data it was trained on"
_MAST3R_LICENCE = (
    f"{PUBLISHED_LICENCE}; see the authors' CHECKPOINTS_NOTICE: that of the map-free data set is very restrictive"
)
_UNOFFICIAL_LICENCE = (
    "not stated with the file, by a third party; its code is CC BY-NC-SA 4.0 in part, so treat it as non-commercial"
)
VENDOR = "https://download.europe.naverlabs.com/ComputerVision"
"""The file server of DUSt3R's, MASt3R's and CroCo's authors."""
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class PublishedFile:
    """One file of a published model, with what is known about its content."""

    name: str
    bytes: int | None = None
    """None where nobody wrote it down."""
    sha256: str | None = None
    """None where nobody wrote it down; the hub's own checksum then stands in."""


@dataclass(frozen=True)
class Published:
    """A published model."""

    name: str
    """Short, as typed."""
    title: str
    """As its authors call it."""
    family: str
    """``"DUSt3R"``, ``"MASt3R"``, ``"CroCo"`` or ``"DynaDUSt3R"``."""
    official: str
    """Its authors' file name, without suffix."""
    parameters: int
    """Trained values; the positions that CroCo v1 stores are none."""
    resolution: tuple[int, int]
    """Width and height of the images it was trained on, at most, in pixels."""
    heads: tuple[str, ...]
    repo: str | None = None
    """Repository on the hub, or None."""
    revision: str | None = None
    """Commit of the repository that ``files`` describes; None takes the newest."""
    url: str | None = None
    """On the authors' file server, or None."""
    files: tuple[PublishedFile, ...] = ()
    """Empty where the names are not known: then the repository is asked."""
    licence: str = PUBLISHED_LICENCE
    also: tuple[str, ...] = ()
    """Further names."""

    @property
    def bytes(self) -> int:
        """Size of all files: as published where that is known, else four bytes a parameter."""
        known = sum(file.bytes or 0 for file in self.files)
        return known if known > self.parameters else 4 * self.parameters

    @property
    def bytes_are_exact(self) -> bool:
        """Whether the size of every file is known."""
        return bool(self.files) and all(file.bytes is not None for file in self.files)

    @property
    def source(self) -> str:
        """Where it is published, in a word or a URL."""
        return f"hub: {self.repo}" if self.repo else str(self.url)

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that it may be called."""
        return tuple(name for name in (self.name, *self.also, self.official, self.repo) if name)


_L_LINEAR, _L_DPT = 532_342_784, 571_171_208
_DPT = ("pointmap dpt",)
_LINEAR = ("pointmap linear",)
_COMPLETION = ("completion",)


def _dust3r(name: str, kind: str, size: int, parameters: int, heads: tuple[str, ...]) -> Published:
    """A DUSt3R whose hub files nobody has pinned."""
    official = f"DUSt3R_ViTLarge_BaseDecoder_{kind}"
    return Published(
        name=name,
        title=f"DUSt3R {kind.replace('_', ' ')}",
        family="DUSt3R",
        official=official,
        parameters=parameters,
        resolution=(size, size),
        heads=heads,
        repo=f"naver/{official}",
        url=f"{VENDOR}/DUSt3R/{official}.pth",
        files=(PublishedFile(_CONFIG), PublishedFile(_WEIGHTS)),
    )


def _croco(name: str, title: str, official: str, parameters: int) -> Published:
    url = f"{VENDOR}/CroCo/{official}.pth"
    return Published(
        name=name,
        title=title,
        family="CroCo",
        official=official,
        parameters=parameters,
        resolution=(224, 224),
        heads=_COMPLETION,
        url=url,
        files=(PublishedFile(f"{official}.pth"),),
    )


CATALOGUE: tuple[Published, ...] = (
    _dust3r("dust3r-224-linear", "224_linear", 224, _L_LINEAR, _LINEAR),
    _dust3r("dust3r-512-linear", "512_linear", 512, _L_LINEAR, _LINEAR),
    Published(
        name="dust3r-512-dpt",
        title="DUSt3R 512 dpt",
        family="DUSt3R",
        official="DUSt3R_ViTLarge_BaseDecoder_512_dpt",
        parameters=_L_DPT,
        resolution=(512, 512),
        heads=_DPT,
        repo="naver/DUSt3R_ViTLarge_BaseDecoder_512_dpt",
        revision="61c57447d7b0adc8a1a30b2b0adec7a8935aa2a3",
        url=f"{VENDOR}/DUSt3R/DUSt3R_ViTLarge_BaseDecoder_512_dpt.pth",
        files=(
            PublishedFile(_CONFIG, 450, "3a95c4ea45381e13e998ec059e91f641e3d43b3230e85afb29e46b47e76c1ba5"),
            PublishedFile(_WEIGHTS, 2_284_790_056, "7c300a89534113436bde52732d3151212bcbd90f0aa3c8d1496f86d84bfe4b42"),
        ),
        also=("dust3r",),
    ),
    Published(
        name="monst3r",
        title="MonST3R 512 dpt",
        family="DUSt3R",
        official="MonST3R_PO-TA-S-W_ViTLarge_BaseDecoder_512_dpt",
        parameters=_L_DPT,
        resolution=(512, 512),
        heads=_DPT,
        repo="Junyi42/MonST3R_PO-TA-S-W_ViTLarge_BaseDecoder_512_dpt",
        revision="1ea2a9eade23a10898ec73be3fd44b5aa4ea0255",
        files=(
            PublishedFile(_CONFIG, 453, "fccd9c31cacd66a9a7a511e1debf8ddc43525d252b2378ffdff584ac8e237071"),
            PublishedFile(_WEIGHTS, None, "53089f3bf16ef8d546d9c00232474f2b42490ce359986a1795795c6dc07a3e57"),
        ),
    ),
    Published(
        name="mast3r",
        title="MASt3R 512 catmlpdpt metric",
        family="MASt3R",
        official="MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric",
        parameters=688_638_856,
        resolution=(512, 512),
        heads=("pointmap dpt, in metres", "descriptors"),
        repo="naver/MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric",
        revision="06e7259f34c3060f322df5cb0c7b9094f57e41fc",
        url=f"{VENDOR}/MASt3R/MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric.pth",
        files=(
            PublishedFile(_CONFIG, 546, "718eb93dc4f9e4332b60cc0041af962d712cbd346d7770ce35c5b22cff68eae4"),
            PublishedFile(_WEIGHTS, 2_754_661_648, "0a615eb05fa9db654050aa655945ee5696e7c6c1b7f93f1ee8c37249010f6feb"),
        ),
        licence=_MAST3R_LICENCE,
    ),
    # parameters of the base ones follow from their depths and widths; that of the large one was counted
    _croco("croco-v1", "CroCo v1 base, small decoder, cosine positions", "CroCo", 120_076_288),
    _croco("croco-v2-base-small", "CroCo v2 base, small decoder", "CroCo_V2_ViTBase_SmallDecoder", 120_076_288),
    _croco("croco-v2-base", "CroCo v2 base, base decoder", "CroCo_V2_ViTBase_BaseDecoder", 200_269_824),
    _croco("croco-v2-large", "CroCo v2 large, base decoder", "CroCo_V2_ViTLarge_BaseDecoder", 417_918_720),
    Published(
        name="dynadust3r-unofficial",
        title="DynaDUSt3R by a third party, trained on Stereo4D",
        family="DynaDUSt3R",
        official="dynadust3r-unofficial-weights",
        parameters=612_627_216,
        resolution=(512, 512),
        heads=("pointmap dpt", "motion dpt"),
        repo="KevinMathew/dynadust3r-unofficial-weights",
        licence=_UNOFFICIAL_LICENCE,
        also=("dynadust3r",),
    ),
)

_BY_NAME = {name.casefold(): published for published in CATALOGUE for name in published.names}
BY_SHA256: Mapping[str, Published] = {
    file.sha256: published
    for published in CATALOGUE
    for file in published.files
    if file.sha256 is not None and file.name != _CONFIG
}
"""sha256 of a published weights file -> what it is."""


def find(name: str) -> Published | None:
    """The published model of a name: short, official, or that of its repository; upper and lower case are alike."""
    return _BY_NAME.get(name.casefold())


def suggestions(name: str) -> list[str]:
    """Names of published models that look like ``name``, the likeliest first, each model once."""
    close = get_close_matches(name.casefold(), _BY_NAME, n=6, cutoff=0.6)
    return list(dict.fromkeys(_BY_NAME[entry].name for entry in close))[:3]
