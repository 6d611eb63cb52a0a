"""A cluster seen from outside: started, waited for, and ended with everything it began.

Owns the daemon behind `up`, the Ray of a local cluster and the checks before and after a start.
Never watches or restarts an actor: that is the supervisor's, in `actors/`. Calls block.

The way in is `up` and `down` (`up_down.py`); what both a local and a joined cluster share is
`Cluster` (`cluster.py`).

    up_down.py     `up` and `down`: spawns the daemon, or ends it and all below it
    daemon.py      the process behind `up`: owns one `LocalCluster` until it is told to end
    local.py       `LocalCluster`: a cluster on a Ray of its own
    joined.py      a cluster in a Ray that somebody else runs (`--address`)
    cluster.py     `Cluster`: create the controller, wait until all serves, take it down
    placement.py   whether Ray has the resources, before anything is started
    readiness.py   whether the router has all its workers, after everything runs
"""
