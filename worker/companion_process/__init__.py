"""Companion process: companions and their workers' servers, several in one process without torch.

`python -m radixroute.worker.companion_process --fd N --parent PID` is started by whoever serves
engines that are not ours (`deploy/serving`), says over a socket pair what becomes of each life in
it, and never restarts one. It ends when that pair closes, when its parent dies, and in order at
SIGTERM.

The way in: `__main__.py`; from outside the messages of `frames.py`.

    __main__.py   the process: its pipe, its signals, its end
    memory.py     what a start needed and nobody needs any more
    lives.py      `Lives`: the workers in it, each from start to end
    frames.py     the messages to and fro, and how they stand in the pipe
"""
