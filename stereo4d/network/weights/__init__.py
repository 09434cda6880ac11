"""Weights files: read safely, built strictly, written whole."""

from stereo4d.network.weights.checkpoint import Checkpoint, file_sha256, read_checkpoint, read_tensors
from stereo4d.network.weights.inspection import CheckpointInfo, inspect
from stereo4d.network.weights.loading import (
    build,
    build_completion,
    empty_completion_network,
    empty_network,
    load_completion,
    load_model,
    save_model,
    stereo_config,
)
from stereo4d.network.weights.names import resolve
from stereo4d.network.weights.starting import StartReport, start_from

__all__ = [
    "Checkpoint",
    "CheckpointInfo",
    "StartReport",
    "build",
    "build_completion",
    "empty_completion_network",
    "empty_network",
    "file_sha256",
    "inspect",
    "load_completion",
    "load_model",
    "read_checkpoint",
    "read_tensors",
    "resolve",
    "save_model",
    "start_from",
    "stereo_config",
]
