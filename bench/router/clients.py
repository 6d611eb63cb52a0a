"""The clients' process, asked for one load after another, and what each cost a front."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from statistics import median

import msgspec

from bench.router.cpu import cpu_ns
from bench.router.fronts import Front, end
from bench.router.wire import Load, Outcome


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one load: CPU of all between clients and engines, in us."""

    token_us: float
    answer_us: float
    first_ms: list[float]  # sorted


class Clients:
    """Numbers its prompts so that none is asked twice."""

    def __init__(self) -> None:
        self._first = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.router.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def load(self, way: str, port: int, **more: object) -> Outcome:
        """Raises `SystemExit` unless every answer came whole."""
        load = msgspec.convert({"way": way, "port": port, "first": self._first, **more}, Load)
        self.begin(load)
        return self.outcome(load)

    def begin(self, load: Load) -> None:
        self._first += load.requests
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(msgspec.to_builtins(load)) + "\n")
        self._process.stdin.flush()

    def outcome(self, load: Load) -> Outcome:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the clients' process ended; what it said is above")
        outcome = msgspec.json.decode(line, type=Outcome)
        wanted = 0 if load.way.startswith("route") else load.requests * load.max_tokens
        if outcome.failed or (outcome.answers, outcome.tokens) != (load.requests, wanted):
            told = outcome.failed or f"{outcome.answers} answers, {outcome.tokens} tokens"
            raise SystemExit(f"{load.way}, {load.kind}, port {load.port}: {told}")
        return outcome

    def cost(self, front: Front, way: str, **more: object) -> Cost:
        port = front.http_port if way == "http" else front.grpc_port
        pids = front.pids()
        before_ns = cpu_ns(pids)
        outcome = self.load(way, port, **more)
        us = (cpu_ns(pids) - before_ns) / 1e3
        return Cost(us / max(1, outcome.tokens), us / outcome.answers, sorted(outcome.first_ms))

    def close(self) -> None:
        end(self._process)


@dataclass
class Table:
    """Figures of rounds by row and front."""

    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, row: str, front: str, figure: float) -> None:
        self.figures.setdefault(row, {}).setdefault(front, []).append(figure)

    def of(self, row: str, front: str) -> float:
        """The median of its rounds."""
        return median(self.figures[row][front])

    def medians(self) -> dict[str, dict[str, float]]:
        return {
            row: {front: round(median(figures), 3) for front, figures in by.items()}
            for row, by in self.figures.items()
        }
