"""The process that reads giant prompts: `python -m radixroute.router.api.giants.child --fd N`.

One prompt at a time, until the router's end of its socket closes. Between two turns of its work it
looks whether anybody still waits; what it remembers of prompts is its own. Runs behind everything
else on its machine: streams go first.
Started by `GiantReaders` alone.
"""

import argparse
import datetime
import os
import select
import signal
import socket
import sys
import time
from dataclasses import astuple

from radixroute.request.errors import InvalidRequest
from radixroute.request.pacing import Abandoned
from radixroute.request.tokenizer import Tokenizer
from radixroute.request.wire import pack_tokens
from radixroute.router.api.giants.forms import Reading, read
from radixroute.router.api.giants.messages import (
    Load,
    Message,
    Read,
    Refused,
    Stop,
    Stopped,
    Tokens,
    limits_of,
    receive,
    send,
)
from radixroute.router.api.memo.memo import Memo

NICE = 5
LOOK_S = 1.0  # for what it should forget, while nothing is asked


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="radixroute.router.api.giants.child")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--memo-bytes", type=int, default=0)
    parser.add_argument("--memo-idle-s", type=float, default=1.0)
    options = parser.parse_args(arguments)
    # Ctrl-C goes to the whole group: the router ends us by closing the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICE)
    os.set_inheritable(options.fd, False)
    with socket.socket(fileno=options.fd) as sock:
        try:
            serve(sock, Memo(options.memo_bytes, options.memo_idle_s))
        except (EOFError, OSError):
            return 0
    return 0


def serve(sock: socket.socket, memo: Memo) -> None:
    """Until the other end is gone: raises `EOFError` or `OSError` then."""
    tokenizer: Tokenizer | None = None
    while True:
        memo.forget_old(time.monotonic())
        while not select.select([sock], [], [], LOOK_S if len(memo) else None)[0]:
            memo.forget_old(time.monotonic())
        match receive(sock):
            case Load(files):
                tokenizer = Tokenizer.from_files(files)
            case Read() as job:
                if tokenizer is None:
                    raise EOFError("a prompt came before a tokenizer")
                send(sock, _answer(sock, job, tokenizer, memo))
            case Stop():
                pass  # it crossed the answer
            case message:
                raise EOFError(f"{type(message).__name__} is not for this end")


def _answer(sock: socket.socket, job: Read, tokenizer: Tokenizer, memo: Memo) -> Message:
    def pause() -> None:
        # Nothing else is sent while a prompt is being read: it is a word to stop, or the end.
        if select.select([sock], [], [], 0)[0]:
            receive(sock)
            raise Abandoned

    recall = memo.recall(job.root) if job.root else None
    try:
        today = datetime.date.fromordinal(job.today)
        reading = Reading(tokenizer, limits_of(job), pause, recall, today)
        tokens = read(job.form, job.data, reading)
    except InvalidRequest as error:
        return Refused(job.number, error.field, error.message)
    except Abandoned:
        return Stopped(job.number)
    if recall is not None:
        memo.keep(recall, time.monotonic())
    return Tokens(job.number, pack_tokens(tokens), (*astuple(memo.counts), memo.n_bytes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
