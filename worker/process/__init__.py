"""The engine process: an engine beside the server, whose Python then never stretches a step.

Owns the child process, the socket pair to it and the form of what crosses it. Never restarts a
process, never decides about a request and never imports torch: the child loads the runner by name.
The child dies with its parent and ends when the pipe closes.

The way in is `EngineProcess` (`engine_process.py`), the server's side; `child.py` is the other one.

    engine_process.py   seen from the server: start, submit, abort, notice the end, stop
    child.py            the process itself: `python -m radixroute.worker.process.child`
    engine_loop.py      between two steps, take every message; step; send what it did
    pipe.py             the child's end of the socket pair, message by message
    messages.py         the messages both ways, as MessagePack
"""
