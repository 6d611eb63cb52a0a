"""What a cluster remembers beyond a process's life, and the records of its status.

Owns the ledger (incarnations, port, policy), which outlives the controller, and the state files
that `down` reads. Never starts or ends anything. Holds no secrets on disk.

The way in is `Ledger` (`ledger.py`) inside Ray, `read_state` (`state_file.py`) outside.

    ledger.py       incarnations given, the port and policy to keep; the `Store` seam
    ray_store.py    a `Store` in Ray's internal KV
    state_file.py   one JSON file a cluster of this machine
    run_folder.py   the logs of one life of a cluster, kept after it
    records.py      status of a cluster, outcomes of starts
"""
