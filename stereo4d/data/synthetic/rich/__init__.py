"""The rich synthetic world: a second kind of world beside the plain rooms, with exact truth as well.

``config`` names its knobs, ``kinds`` its places, ``layout`` and ``figures`` draw what is there, ``bodies`` moves it,
``shapes`` and ``cast`` find what rays meet, ``textures`` and ``shade`` colour it, ``photo`` takes the picture.
"""

from stereo4d.data.synthetic.rich.config import Cameras, Light, Picture, RichWorlds, Surfaces, Things

__all__ = ["Cameras", "Light", "Picture", "RichWorlds", "Surfaces", "Things"]
