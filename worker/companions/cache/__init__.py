"""What an engine that is not ours has cached, on its way into our events.

Where the engine tells, no more is believed than was told, and nothing is judged: that is
`radixroute.events.engines`'. Where it tells nothing, it is a belief and said to be one.

    follower.py     `EventFollower`: one engine's event sockets, in a thread of their own
    salts.py        `Salts`: which of our scopes a salt in its events means
    mirror.py       `CacheMirror`: what it holds now, to foresee how much of a prompt is cached
    believed.py     `BelievedCache`: what one that tells nothing has cached, learned
"""
