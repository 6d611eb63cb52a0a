"""`python -m bench.events`: event streams over real sockets, from publishers to a router's index.

Owns rates, losses and the time a restarted router needs. Begin with `__main__.py`.

    __main__.py   the receiving half, what is measured, the file
    sender.py     a worker's publisher in a process of its own
"""
