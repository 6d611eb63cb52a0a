"""Worker sessions over plain sockets, as `protos/frames.py` says.

Owns the listening socket and its connections; what the messages do is `inbox`'s, one folder up.

The way in: `FrameServer` (`frame_server.py`).

    frame_server.py   connections, from greeting to end
    frame_socket.py   where they come in: TCP, TLS or Unix
"""
