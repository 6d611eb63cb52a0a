"""Readiness: whether the router has all its workers.

Actors that run are not yet a cluster: the router may refuse a worker (another block size, scope or
tokenizer, a certificate that is not believed), and that reason must reach the user who started it.
Never imports Ray. Called by `cluster`.
"""

from collections.abc import Callable

from radixroute.deploy.errors import StartError
from radixroute.deploy.state.records import RouterLook

LIVE, REFUSED = "live", "refused"  # member states as the wire names them


def await_joined(
    look: Callable[[], RouterLook | None],
    workers: int,
    give_up: Callable[[], bool],
    pause: Callable[[], None],
) -> RouterLook:
    """Returns once the router serves with `workers` live workers. `look`: None: it has no life now.

    Raises `StartError` when it refuses one, or when `give_up()` says that the time is over.
    """
    waiting_for = "the router to answer"
    while not give_up():
        seen = look()
        if seen is None:
            pause()
            continue
        for member in seen.members:
            if member.state == REFUSED:
                raise StartError(f"the router refused {member.worker_id}: {member.reason}")
        states = {member.worker_id: member.state for member in seen.members}
        if sum(state == LIVE for state in states.values()) >= workers:
            return seen
        waiting_for = f"{workers} live workers; the router has {states or 'none'}"
        pause()
    raise StartError(f"gave up waiting for {waiting_for}")
