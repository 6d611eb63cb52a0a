"""Readers: the processes that read giant prompts, seen from the router.

Owns them, from the first prompt that needs one to `close`; one reads one prompt at a time, and as
many are started as are asked at once. One that is lost is replaced and its prompt read once more.
`read` blocks without the interpreter's lock: for a thread of its own. Never logs a prompt.
"""

import datetime
import logging
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from radixroute.radix.ids import Tokens
from radixroute.request.chat import NO_DATE
from radixroute.request.errors import InvalidRequest
from radixroute.request.limits import Limits
from radixroute.request.pacing import Abandoned
from radixroute.request.tokenizer import Tokenizer
from radixroute.router.api.giants import messages as wire
from radixroute.router.api.giants.forms import Form
from radixroute.router.api.memo.memo import MemoCounts
from radixroute.router.errors import PromptUnread

GIANT_BYTES = 64 * 1024  # some 30 ms of tokenising
TRIES = 2
# How often a thread looks whether its prompt is still wanted.
LOOK_S = 0.25

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Giant:
    """A prompt as it came."""

    form: Form
    data: bytes


class GiantReaders:
    """All of one router's. Threads may share it."""

    def __init__(self, memo_bytes: int = 0, memo_idle_s: float = 1.0) -> None:
        """What each of them may remember of prompts, and for how long after its last use."""
        self._memo = (memo_bytes, memo_idle_s)
        self._lock = threading.Lock()
        self._idle: list[_Reader] = []
        self._all: set[_Reader] = set()
        self._is_closed = False
        self.lost = 0  # that ended while they read
        self._counting = threading.Lock()  # held for a moment only: the router's loop reads
        self.memo_counts = MemoCounts()  # of their memos together

    def read(
        self,
        giant: Giant,
        tokenizer: Tokenizer,
        limits: Limits,
        is_wanted: Callable[[], bool],
        root: bytes = b"",
        today: datetime.date = NO_DATE,
    ) -> Tokens:
        """Raises InvalidRequest, Abandoned when it is not wanted any more, and PromptUnread.

        `root`: of the names of the prompt's pieces; empty: none are remembered. `today`: what a
        chat template that asks prints.
        """
        for _ in range(TRIES):
            reader = self._take()
            try:
                tokens, happened = reader.ask(giant, tokenizer, limits, is_wanted, root, today)
            except (InvalidRequest, Abandoned):
                self._give_back(reader)
                raise
            except (EOFError, OSError):
                self._replace(reader)
                continue
            with self._counting:
                self.memo_counts += happened
            self._give_back(reader)
            return tokens
        raise PromptUnread("the process that reads giant prompts ended twice: shorten the prompt")

    @property
    def pids(self) -> list[int]:
        """Of those that run."""
        with self._lock:
            return sorted(reader.pid for reader in self._all)

    @property
    def memo_bytes(self) -> int:
        """What their memos take."""
        # Without the lock: it is held while a process starts, and the router's loop asks.
        return sum(one.memo_bytes for one in tuple(self._all))

    def close(self) -> None:
        """Ends them; whoever waits for one is told that it is lost. Idempotent."""
        with self._lock:
            self._is_closed = True
            readers, idle = list(self._all), list(self._idle)
            self._all.clear()
            self._idle.clear()
        for reader in readers:
            reader.kill()
        for reader in idle:  # the others have a thread that still looks at theirs
            reader.close()

    def _take(self) -> "_Reader":
        with self._lock:
            if self._is_closed:
                raise PromptUnread("the router stops")
            while self._idle:
                reader = self._idle.pop()
                if reader.is_alive:
                    return reader
                self._all.discard(reader)
                reader.close()
            reader = _Reader(*self._memo)
            self._all.add(reader)
            return reader

    def _give_back(self, reader: "_Reader") -> None:
        with self._lock:
            if not self._is_closed:
                self._idle.append(reader)
                return
        reader.close()

    def _replace(self, reader: "_Reader") -> None:
        with self._lock:
            is_ours = reader in self._all
            self._all.discard(reader)
            self.lost += is_ours
        reader.kill()
        reader.close()
        if is_ours:
            _log.error("process %d, which read a giant prompt, has ended", reader.pid)


class _Reader:
    """One process and this end of its socket."""

    def __init__(self, memo_bytes: int, memo_idle_s: float) -> None:
        self._socket, child_end = socket.socketpair()
        with child_end:
            command = [sys.executable, "-m", "radixroute.router.api.giants.child"]
            command += ["--fd", str(child_end.fileno())]
            command += ["--memo-bytes", str(memo_bytes), "--memo-idle-s", str(memo_idle_s)]
            self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
                command, pass_fds=(child_end.fileno(),), stdin=subprocess.DEVNULL
            )
        self._fingerprint = ""  # of the tokenizer that it has
        self._number = 0
        self._counts, self.memo_bytes = MemoCounts(), 0  # as of its last answer

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(
        self,
        giant: Giant,
        tokenizer: Tokenizer,
        limits: Limits,
        is_wanted: Callable[[], bool],
        root: bytes,
        today: datetime.date,
    ) -> tuple[Tokens, MemoCounts]:
        """And what happened to its memo since it answered last."""
        if self._fingerprint != tokenizer.fingerprint:
            wire.send(self._socket, wire.Load(tokenizer.files()))
            self._fingerprint = tokenizer.fingerprint
        self._number += 1
        job = wire.read_job(self._number, giant.form, giant.data, limits, root, today)
        wire.send(self._socket, job)
        self._wait(is_wanted)
        match wire.receive(self._socket):
            case wire.Tokens(self._number, packed, memo):
                *counts, self.memo_bytes = memo
                before, self._counts = self._counts, MemoCounts(*counts)
                tokens = np.frombuffer(packed, "<u4").astype(np.uint32, copy=False)
                return tokens, self._counts - before
            case wire.Refused(self._number, field, message):
                raise InvalidRequest(field, message)
            case wire.Stopped(self._number):
                raise Abandoned
            case _:
                raise EOFError("an answer to nothing that was asked")

    def kill(self) -> None:
        """It has nothing to lose. Whoever waits for its answer sees the end of the socket."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """By whoever had it last."""
        self._socket.close()

    def _wait(self, is_wanted: Callable[[], bool]) -> None:
        """Until the answer begins; asks to stop once when it is not wanted any more."""
        has_asked = False
        while not select.select([self._socket], [], [], LOOK_S)[0]:
            if not has_asked and not is_wanted():
                has_asked = True
                wire.send(self._socket, wire.Stop(self._number))
