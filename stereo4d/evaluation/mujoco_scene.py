"""Random scenes for MuJoCo, another renderer than the synthetic worlds' own: what stands there and how it moves.

A pair lasts from time 0 to time 1. MuJoCo's world has z up; cameras come out as OpenCV's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

OBJECTS = 12
SURFACES = 10
WALLS = 4
CAMERA = "eye"
TO_OPENCV = np.diag([1.0, -1.0, -1.0])
"""MuJoCo's cameras look along -z with y up."""


@dataclass(frozen=True)
class Moves:
    """K rigid bodies that travel evenly and turn evenly."""

    position: np.ndarray
    """(K, 3) metres, at time 0."""
    rotation: np.ndarray
    """(K, 3) rotation vectors, at time 0."""
    travel: np.ndarray
    """(K, 3) metres until time 1."""
    turn: np.ndarray
    """(K, 3) rotation vectors until time 1, about the body's centre, world axes."""

    @property
    def moving(self) -> np.ndarray:
        """(K,) bool."""
        return (np.abs(self.travel).sum(1) + np.abs(self.turn).sum(1)) > 0

    def poses(self, time: float) -> np.ndarray:
        """(K, 4, 4) from the body's frame to the world at a time."""
        poses = np.tile(np.eye(4), (len(self.position), 1, 1))
        poses[:, :3, :3] = (Rotation.from_rotvec(time * self.turn) * Rotation.from_rotvec(self.rotation)).as_matrix()
        poses[:, :3, 3] = self.position + time * self.travel
        return poses


@dataclass(frozen=True)
class SceneDrawing:
    """A scene as MuJoCo reads it, and what moves in it."""

    xml: str
    sizes: np.ndarray
    """(K, 3) half extents of the objects, metres."""
    objects: Moves
    """Bodies ``object0`` ...; K of them."""
    camera: Moves
    """The camera alone (K = 1), MuJoCo's axes."""
    field_of_view: float
    """Vertical, degrees."""


def draw_scene(rng: np.random.Generator, *, aspect: float) -> SceneDrawing:
    """A floor, in half of the scenes walls, and a dozen things of several shapes, seen by a camera that travels.

    Args:
        rng: what is drawn comes from it.
        aspect: width over height of the pictures.
    """
    sizes = rng.uniform(0.12, 0.6, (OBJECTS, 3))
    return arranged(rng, _document(rng, sizes), sizes, aspect=aspect)


def arranged(rng: np.random.Generator, xml: str, sizes: np.ndarray, *, aspect: float) -> SceneDrawing:
    """The things of a scene, with half extents (K, 3), in other places, seen by another camera."""
    across = rng.uniform(0.7, 1.4)  # radians along the longer side, as the worlds' lenses
    vertical = across if aspect < 1 else 2 * np.arctan(np.tan(across / 2) / aspect)
    camera = _draw_camera(rng)
    return SceneDrawing(xml, sizes, _draw_moves(rng, sizes, camera), camera, float(np.rad2deg(vertical)))


def _draw_camera(rng: np.random.Generator) -> Moves:
    eye = np.array([rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), rng.uniform(0.7, 1.9)])
    direction = rng.normal(size=3)
    travel = direction / np.linalg.norm(direction) * np.exp(rng.uniform(np.log(0.1), np.log(0.9))) * [1, 1, 0.4]
    # looks ahead (+y) and a little down; turns so that it keeps to what it saw
    look = np.array([rng.uniform(-0.3, 0.3), 1.0, rng.uniform(-0.35, 0.05)])
    rotation = _looking(look)
    later = _looking(look * 3.5 - travel * rng.uniform(0.3, 1.0) + rng.normal(size=3) * 0.15)
    turn = (later * rotation.inv()).as_rotvec()
    return Moves(eye[None], rotation.as_rotvec()[None], travel[None], turn[None])


def _looking(direction: np.ndarray) -> Rotation:
    """A camera of MuJoCo's that looks along a direction, upright."""
    back = -direction / np.linalg.norm(direction)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    return Rotation.from_matrix(np.stack([right, np.cross(back, right), back], 1))


def _draw_moves(rng: np.random.Generator, sizes: np.ndarray, camera: Moves) -> Moves:
    """Things ahead of the camera that never come near it."""
    moving = rng.random(OBJECTS) < 0.4
    travel = moving[:, None] * rng.normal(size=(OBJECTS, 3)) * [0.35, 0.35, 0.12]
    turn = moving[:, None] * rng.normal(size=(OBJECTS, 3)) * 0.4
    radius = np.linalg.norm(sizes, axis=1)
    position = np.empty((OBJECTS, 3))
    for number in range(OBJECTS):
        for _ in range(100):
            distance = rng.uniform(1.5, 6.0)
            place = np.array([rng.uniform(-0.7, 0.7) * distance, distance, sizes[number, 2] + 0.6 * rng.random() ** 3])
            gaps = [
                np.linalg.norm(place + time * travel[number] - camera.position[0] - time * camera.travel[0])
                for time in (0.0, 0.25, 0.5, 0.75, 1.0)
            ]
            if min(gaps) > radius[number] + 0.5:
                break
        position[number] = place
    upright = rng.uniform(-np.pi, np.pi, OBJECTS)[:, None] * [0.0, 0.0, 1.0]
    return Moves(position, upright, travel, turn)


def _document(rng: np.random.Generator, sizes: np.ndarray) -> str:
    """The scene in MuJoCo's XML; bodies that may move are mocap bodies, whose poses are set from outside."""
    meshes = [f'<mesh name="hull{n}" vertex="{_text(_hull(rng, size))}"/>' for n, size in enumerate(sizes)]
    surfaces = [_surface(rng, number) for number in range(SURFACES)]
    sky = _colours(rng, 0.4, 1.0)
    sun = rng.normal(size=3) * [0.6, 0.6, 0.0] + [0, 0, -1]
    bodies = [f'<body name="object{n}" mocap="true">{_geom(rng, n, size)}</body>' for n, size in enumerate(sizes)]
    return f"""<mujoco>
<statistic extent="1" center="0 3 1"/>
<visual>
  <quality offsamples="0" shadowsize="1024"/>
  <map znear="0.1" zfar="60" shadowclip="8"/>
  <headlight ambient="{_text(rng.uniform(0.2, 0.45, 1).repeat(3))}" diffuse="0.25 0.25 0.25" specular="0 0 0"/>
</visual>
<asset>
<texture type="skybox" builtin="gradient" {sky} width="128" height="768"/>
{"".join(surfaces)}
{"".join(meshes)}
</asset>
<worldbody>
<light directional="true" pos="0 3 8" dir="{_text(sun)}" diffuse="0.6 0.6 0.6" castshadow="true"/>
<geom type="plane" size="30 30 1" material="surface0"/>
{_walls(rng) if rng.random() < 0.5 else ""}
{"".join(bodies)}
<body name="{CAMERA}" mocap="true"><camera name="{CAMERA}"/></body>
</worldbody>
</mujoco>"""


def _surface(rng: np.random.Generator, number: int) -> str:
    """A texture of MuJoCo's own and a material that wears it; even ones for flat walls, odd ones for things."""
    built = rng.choice(["checker", "gradient", "flat"], p=[0.5, 0.2, 0.3])
    mark = rng.choice(["none", "edge", "cross", "random"], p=[0.15, 0.15, 0.2, 0.5])
    flat = number % 2 == 0
    size = 'width="256" height="256"' if flat else 'width="128"'
    repeat = rng.uniform(0.4, 2.0) if flat else rng.integers(1, 4)
    return (
        f'<texture name="texture{number}" type="{"2d" if flat else "cube"}" builtin="{built}" mark="{mark}" '
        f'markrgb="{_text(rng.random(3))}" random="{rng.uniform(0.02, 0.4):.3f}" {_colours(rng, 0.1, 0.95)} {size}/>'
        f'<material name="surface{number}" texture="texture{number}" texrepeat="{repeat} {repeat}" '
        f'texuniform="{"true" if flat else "false"}" specular="{rng.uniform(0, 0.7):.2f}" '
        f'shininess="{rng.uniform(0.1, 0.9):.2f}"/>'
    )


def _geom(rng: np.random.Generator, number: int, size: np.ndarray) -> str:
    kind = rng.choice(["box", "sphere", "capsule", "ellipsoid", "cylinder", "mesh"])
    odd = 1 + 2 * int(rng.integers(SURFACES // 2))
    form = f'mesh="hull{number}"' if kind == "mesh" else f'size="{_text(size if kind != "sphere" else size[:1])}"'
    return f'<geom type="{kind}" {form} material="surface{odd}" contype="0" conaffinity="0"/>'


def _hull(rng: np.random.Generator, size: np.ndarray) -> np.ndarray:
    """Random directions at the half extents; MuJoCo draws their convex hull."""
    points = rng.normal(size=(14, 3))
    return (points / np.linalg.norm(points, axis=1, keepdims=True) * size).ravel()


def _walls(rng: np.random.Generator) -> str:
    half, far, high = rng.uniform(3.5, 6), rng.uniform(5.5, 9), rng.uniform(2.5, 4)
    places = [((-half, 2.0, high / 2), (0.05, far, high / 2)), ((half, 2.0, high / 2), (0.05, far, high / 2))]
    places += [((0.0, far, high / 2), (half, 0.05, high / 2)), ((0.0, -3.0, high / 2), (half, 0.05, high / 2))]
    evens = 2 * rng.integers(SURFACES // 2, size=WALLS)
    return "".join(
        f'<geom type="box" pos="{_text(np.array(place))}" size="{_text(np.array(size))}" material="surface{even}"/>'
        for (place, size), even in zip(places, evens, strict=True)
    )


def _colours(rng: np.random.Generator, low: float, high: float) -> str:
    return f'rgb1="{_text(rng.uniform(low, high, 3))}" rgb2="{_text(rng.uniform(low, high, 3))}"'


def _text(values: np.ndarray) -> str:
    return " ".join(f"{value:.4f}" for value in values)
