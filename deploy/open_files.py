"""Open files: what a router's process needs of them, and the limit that lets it have them.

Shells give 1,024 by default and allow many more; a router has one for each connection.
"""

import resource
from typing import Final

# Beside one for each connection: workers' sessions and events, logs, kernels.
OTHER_FILES: Final = 256


def files_needed(connections: int) -> int:
    """By a router to which so many connections may come."""
    return connections + OTHER_FILES


def allow_files(needed: int) -> int:
    """Raises this process's own limit to `needed`, or as far as it may; never lowers it. The limit
    that it has now; processes that it starts have the same."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return soft
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(soft, allowed)
