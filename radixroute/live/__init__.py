"""A running cluster from outside: traces replayed on it, its engine measured, its events recorded.

Owns what needs a live router or live workers and is no command: the clock of a live replay, the
calibration's series of requests, the sources of a recording. Never prints and never parses options:
`radixroute.cli` does. Goes through the client, as any user's program would.

The way in: `replay_beside` in `lab.py`, `record_into` in `event_recording.py`.

    calibration.py          a cluster's engine measured for `replay.calibration`
    cluster.py              what the cluster is, and traces made to fit it
    event_recording.py      one recording, from an opened file to a finished one
    event_sources.py        which event streams there are, asked of workers or of a router
    lab.py                  a live replay with the simulated one beside it
    replay.py               a trace against a running cluster, open loop
    request_log_reader.py   a router's request log, page by page
    stop_flag.py            signals as a flag
    worker_asker.py         what workers say of themselves, asked as their router would

`lab` imports `replay` and `calibration`; they import `cluster`, and that the client. Recording is
apart from all of these.
"""
