"""Gathering: the edge of the doctor. Asks and looks, judges nothing, changes nothing.

What does not answer, or may not be read, is left out: that is no fault by itself.

    gathering.py   `gather`: all of it, for one run of the command
    routers.py     a router and its workers, twice
    engines.py     engines, examined
    edited.py      settings that were edited after a start
    files.py       files with secrets and certificates, and which of them cannot be used
    listeners.py   who else can connect to the fleet's ports
    sockets.py     ports of this machine, and short exchanges over them
    machine.py     this machine, and what its clusters were started with
"""
