"""Logging of an actor: each line with its time and level, to stderr and to a file of its own.

Ray collects an actor's stderr in a folder that ends with it; the file in the run's folder stays.
Where that folder is not (another node), stderr is all, and where its disk is full it is all until
there is room again; both moments are said. Sets up this process's loggers, once.
"""

import logging
import sys
import time
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

from radixroute.deploy.state.run_folder import actor_log

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
# Of one file; there may be one more, older one. A busy router writes a line a worker's death.
MAX_BYTES = 16 << 20


class _ActorFile(RotatingFileHandler):
    """The file that stays. A disk without room costs lines of it and nothing else."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=MAX_BYTES, backupCount=1)
        self._n_missing = 0  # lines since the file could be written last

    def emit(self, record: logging.LogRecord) -> None:
        before = self._n_missing
        super().emit(record)
        if before and self._n_missing == before:
            self._n_missing = 0
            self._say(f"{self.baseFilename} is written again; {before} lines are missing in it")

    def handleError(self, record: logging.LogRecord) -> None:
        """Logging's own would print a stack for every line."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        # What it still holds would be written with a later line, after it was told as missing.
        stream, self.stream = self.stream, None
        if stream is not None:
            with suppress(OSError):
                stream.close()
        self._n_missing += 1
        if self._n_missing == 1:
            why = error.strerror or type(error).__name__
            self._say(f"cannot write {self.baseFilename}: {why}; lines go to stderr alone")

    def _say(self, text: str) -> None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        print(f"{stamp} WARNING {__name__} {text}", file=sys.stderr, flush=True)


def log_to(run: str, actor: str) -> None:
    """`run`: the folder of this life's logs; empty: there is none."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if run and Path(run).is_dir():
        with suppress(OSError):  # no room even for an empty file
            handlers.append(_ActorFile(actor_log(Path(run), actor)))
    for handler in handlers:
        handler.setFormatter(logging.Formatter(FORMAT))
        logging.getLogger().addHandler(handler)
    # Of libraries only what is wrong; of ours what happens.
    logging.getLogger("radixroute").setLevel(logging.INFO)
