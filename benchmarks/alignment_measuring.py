"""How the alignment benchmark measures: workers, what they measured before, and the table."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORKER = Path(__file__).parent / "alignment_work.py"
QUICK = {"frames": 6, "height": 15, "width": 20}
Request = dict[str, Any]
Measured = dict[str, Any]


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    row: str
    what: str
    measured: float
    bar: str = ""
    met: bool | None = None
    """None where nothing has to be reached."""


class Workers:
    """Two processes: one makes scenes, the other works on them."""

    def __init__(self) -> None:
        self._running: dict[bool, subprocess.Popen[str]] = {}

    def do(self, request: Request, *, fresh: bool = False) -> Measured:
        """Have something done; in a process that has done nothing else, if ``fresh``."""
        makes = request["work"] == "make"
        if fresh:
            self.end(makes)
        if makes not in self._running:
            command = [sys.executable, str(WORKER)]
            self._running[makes] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        worker = self._running[makes]
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(json.dumps(request) + "\n")
        worker.stdin.flush()
        answer = worker.stdout.readline()
        if not answer:
            raise SystemExit(f"no answer, exit code {worker.wait()}: {json.dumps(request)}")
        measured = json.loads(answer)
        seconds = f"{measured['seconds']:.2f} s" if "seconds" in measured else ""
        print(f"... {json.dumps(request)} {seconds}", file=sys.stderr, flush=True)
        return measured

    def end(self, makes: bool) -> None:
        """Close one of the processes, if it runs."""
        worker = self._running.pop(makes, None)
        if worker is not None:
            worker.communicate()


@dataclass(frozen=True)
class Bench:
    """How to measure."""

    out: Path
    threads: list[int]
    seeds: int
    quick: bool
    workers: Workers

    def measure(self, *requests: Request, alone: bool = False) -> list[Measured]:
        """Do pieces of work one after the other, in a fresh process if ``alone``; read what was measured before."""
        found = []
        for request in requests:
            kept = self.out / f"{request['work']}-{_short_name(request)}.json"
            if not kept.exists():
                measured = self.workers.do(request, fresh=alone)
                kept.write_text(json.dumps({"request": request, "measured": measured}, indent=1))
            found.append(json.loads(kept.read_text())["measured"])
        return found

    def scenes(self, *scenes: Request) -> list[tuple[str, Measured]]:
        """The folders of scenes, made if need be, and what there is to say of them."""
        requests = []
        for scene in scenes:
            if self.quick:
                scene = scene | {name: min(value, scene[name]) for name, value in QUICK.items()}
            folder = (self.out / f"scene-{_short_name(scene)}").resolve()
            requests.append({"work": "make", "folder": str(folder), **scene})
        return [(r["folder"], made) for r, made in zip(requests, self.measure(*requests), strict=True)]

    def steps(self, count: int) -> int:
        return count // 50 if self.quick else count


def _short_name(request: Request) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:12]


def ours(folder: str, **more: Any) -> Request:
    return {"work": "ours", "folder": folder, **more}


def adam(folder: str, steps: int, **more: Any) -> Request:
    return {"work": "adam", "folder": folder, "steps": steps, **more}


def show(lines: list[Line]) -> None:
    width = max(len(line.what) for line in lines)
    print(f"{'row':16} {'what':{width}} {'measured':>11}  {'bar':28} met")
    for line in lines:
        value = f"{line.measured:.4g}"
        met = {None: "", True: "yes", False: "NO"}[line.met]
        print(f"{line.row:16} {line.what:{width}} {value:>11}  {line.bar:28} {met}", flush=True)
