"""A router and its workers: started, supervised, restarted, taken down; on Ray, or without it.

Owns everything Ray: the controller, the actors around routers and workers, the membership that the
router is given, `up` and `down`, the cluster files of `ray up`. No request, token or event goes
through it, and no other package imports Ray. It never chooses a worker for a request.

The way in is `up` and `down` (`cluster/up_down.py`) for the command line, `LocalCluster`
(`cluster/local.py`) for programs, and `serve` (`serving/serve.py`) where engines run already: there
the same supervisor keeps companion processes, without Ray. Who restarts a worker: its `ActorSlot`
(`actors/actor_slot.py`), one of those that the `Supervisor` keeps.

Imports point one way: `serving` | `cluster` > `actors` > `state` > `settings` | `ray_env` |
`process_tree` | `open_files` > `errors`. Only `ray_env` imports Ray: `settings`, `serving` and
`state/state_file.py` work without it.

    cluster/          seen from outside: up and down, the daemon, launch, readiness
    serving/          without Ray: a router here, companions beside it
    actors/           inside Ray: the controller, the supervisor, the actors it starts and restarts
    state/            what is remembered: the ledger, state files; status records
    settings.py       how a cluster is laid out
    ray_env.py        the only importer of Ray, and what Ray reads from the environment
    process_tree.py   processes and what is below them, read from /proc
    open_files.py     how many files a router's process may open
    errors.py         errors, cut by what the caller can do

    onprem.yaml, aws-gpu.yaml   cluster files for `ray up`
"""
