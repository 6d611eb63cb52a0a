"""Companion: one life of one engine that is not ours, from its join to its end."""

from radixroute.request.tokenizer import Tokenizer
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.engine.host import HostFactory
from radixroute.worker.settings import WorkerSettings


def companion(
    settings: CompanionSettings,
    url: str,
    worker: WorkerSettings,
    tokenizer: Tokenizer | None = None,
) -> HostFactory:
    """The `host` of a `WorkerService` with the same `worker` settings: the engine at `url`.

    `tokenizer`: else the one in the folder that settings or engine name.
    """
    raise NotImplementedError
