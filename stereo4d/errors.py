"""The exceptions of stereo4d, all in one tree.

    Stereo4DError                 exit code 1
    ├── UsageError                exit code 2: an option or argument is wrong
    ├── InputError                a video, image or folder of the user cannot be used
    ├── ShapeError                arrays that should agree in shape do not
    ├── GraphError                a pair graph cannot be built or leaves frames alone
    ├── AlignmentError            global alignment has no answer
    ├── CheckpointError           a weights file cannot be used
    │   └── UnsafeCheckpointError it would have to run code to be read; refused
    ├── SceneError                a scene folder is not whole or not a scene
    ├── OutputError               a result cannot be written
    ├── TrainingError             training cannot go on: a loss or gradient is no number
    ├── PluginError               an entry point is missing or broken
    └── MissingDependencyError    an optional package is not installed

Every message names the value, the rule and the way out. The command line prints it as the last line on stderr
and exits with ``exit_code``; no traceback unless ``--debug`` is given.
"""


class Stereo4DError(Exception):
    """Base of every error that stereo4d raises on purpose."""

    exit_code: int = 1


class UsageError(Stereo4DError):
    """An option or argument is wrong."""

    exit_code = 2


class InputError(Stereo4DError):
    """A video, image or folder of the user cannot be used."""


class ShapeError(Stereo4DError, ValueError):
    """Arrays that should agree in shape do not."""


class GraphError(Stereo4DError):
    """A pair graph cannot be built, or leaves frames alone."""


class AlignmentError(Stereo4DError):
    """Global alignment has no answer."""


class CheckpointError(Stereo4DError):
    """A weights file cannot be used."""


class UnsafeCheckpointError(CheckpointError):
    """A weights file could only be read by running code from it."""


class SceneError(Stereo4DError):
    """A scene folder is not whole, or not a scene."""


class OutputError(Stereo4DError):
    """A result cannot be written."""


class TrainingError(Stereo4DError):
    """Training cannot go on."""


class PluginError(Stereo4DError):
    """An entry point is missing, or what it names cannot be used."""


class MissingDependencyError(Stereo4DError):
    """An optional package is not installed."""
