"""Logging of an actor: each line with its time and level, to stderr and to a file of its own.

Ray collects an actor's stderr in a folder that ends with it; the file in the run's folder stays.
Where that folder is not (another node), stderr is all. Sets up this process's loggers, once.
"""

import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

from radixroute.deploy.state.run_folder import actor_log

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
# Of one file; there may be one more, older one. A busy router writes a line a worker's death.
MAX_BYTES = 16 << 20


def log_to(run: str, actor: str) -> None:
    """`run`: the folder of this life's logs; empty: there is none."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if run and Path(run).is_dir():
        path = actor_log(Path(run), actor)
        handlers.append(RotatingFileHandler(path, maxBytes=MAX_BYTES, backupCount=1))
    for handler in handlers:
        handler.setFormatter(logging.Formatter(FORMAT))
        logging.getLogger().addHandler(handler)
    # Of libraries only what is wrong; of ours what happens.
    logging.getLogger("radixroute").setLevel(logging.INFO)
