"""events.net: what publishers, subscriber and recorder need of sockets and threads.

Owns a thread that polls and how it is woken. Never knows what a message says.

The way in: `SocketThread` (`socket_thread.py`).

    socket_thread.py   a thread around a poller: started once, woken by anybody, stopped
    wake.py            its wake signal
    frames.py          messages of several frames, cheaper than pyzmq's own verbs
    gate.py            who may come to event sockets that are not for everybody
    tcp.py             what is set on our connections
    bind.py            which addresses only this machine can reach, and which are free
"""
