"""What watches training, each by its class path in a recipe's ``trainer.callbacks``."""

from stereo4d.training.callbacks.nan_guard import NanGuard
from stereo4d.training.callbacks.pair_writer import PairWriter
from stereo4d.training.callbacks.prediction_samples import PredictionSamples
from stereo4d.training.callbacks.throughput import Throughput

__all__ = ["NanGuard", "PairWriter", "PredictionSamples", "Throughput"]
