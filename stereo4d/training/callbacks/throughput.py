"""How fast training goes, and what it waits for."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.profilers import Profiler

from stereo4d.errors import UsageError

FETCHING = "train_dataloader_next"
"""What Lightning's profilers call asking the loader for a batch."""


class Throughput(L.Callback):
    """Logs pairs per second, the share of time that training waits for data, and the share that the device works.

    ``speed/data_wait``: from asking the loader for a batch until the batch is on the device, as a share of all time but
    validation. ``speed/device_share``: on a GPU, time between the first and the last of a step's work there; on a CPU,
    processor time of this process over time times threads. The rest is Python, logging and checkpoints.

    Args:
        every: steps between two figures; they are means over these steps.
    """

    def __init__(self, every: int = 25) -> None:
        if every < 1:
            raise UsageError(f"every {every}: Throughput needs at least one step to measure")
        self.every = every
        self._restart()
        self._asked = self._validation_began = 0.0
        self._begun: torch.cuda.Event | None = None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Listen to when the loader is asked."""
        trainer.profiler = _Listening(trainer.profiler, self)
        self._restart()

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Leave the profiler as it was."""
        if isinstance(trainer.profiler, _Listening):
            trainer.profiler = trainer.profiler.inner

    def loader_asked(self) -> None:
        """The loader is asked for a batch now."""
        self._asked = time.perf_counter()

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, index: int) -> None:
        """The batch is there."""
        if module.device.type == "cuda":
            torch.cuda.current_stream().synchronize()  # the batch may have been made there
            self._begun = torch.cuda.Event(enable_timing=True)
            self._begun.record()
        self._waited += time.perf_counter() - self._asked
        self._processor_before = time.process_time()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Count the step; say so when it is time."""
        self._count(module, len(batch.names))
        if self._batches < self.every:
            return
        elapsed = time.perf_counter() - self._since - self._validated
        figures = {
            "speed/pairs_per_second": self._pairs * trainer.world_size / elapsed,
            "speed/data_wait": self._waited / elapsed,
            "speed/device_share": self._worked / elapsed,
        }
        module.log_dict(figures, batch_size=1)
        self._restart()

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Validation does not count."""
        self._validation_began = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Validation does not count."""
        self._validated += time.perf_counter() - self._validation_began

    def _count(self, module: L.LightningModule, pairs: int) -> None:
        if self._begun is not None:
            ended = torch.cuda.Event(enable_timing=True)
            ended.record()
            ended.synchronize()
            self._worked += self._begun.elapsed_time(ended) / 1000
        else:
            self._worked += (time.process_time() - self._processor_before) / torch.get_num_threads()
        self._batches += 1
        self._pairs += pairs

    def _restart(self) -> None:
        self._since = time.perf_counter()
        self._waited: float = 0.0
        self._validated = self._worked = self._processor_before = 0.0
        self._batches = self._pairs = 0


class _Listening(Profiler):
    """The trainer's own profiler, overheard."""

    def __init__(self, inner: Profiler, listener: Throughput) -> None:
        super().__init__()
        self.inner = inner
        self._listener = listener

    def start(self, action_name: str) -> None:
        """Tell the listener when a batch is asked for, then go on as the profiler within."""
        if action_name.endswith(FETCHING):
            self._listener.loader_asked()
        self.inner.start(action_name)

    def stop(self, action_name: str) -> None:
        """As the profiler within."""
        self.inner.stop(action_name)

    def summary(self) -> str:
        """That of the profiler within."""
        return self.inner.summary()

    def describe(self) -> None:
        """As the profiler within."""
        self.inner.describe()

    def setup(self, *args: Any, **kwargs: Any) -> None:
        """As the profiler within."""
        self.inner.setup(*args, **kwargs)

    def teardown(self, *args: Any, **kwargs: Any) -> None:
        """As the profiler within."""
        self.inner.teardown(*args, **kwargs)
