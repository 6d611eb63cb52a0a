"""What an engine that is not ours says of its cache, on its way into our events.

Never believes more than was told, and never judges: that is `radixroute.events.engines`'.

    follower.py     `EventFollower`: one engine's event sockets, in a thread of their own
    salts.py        `Salts`: which of our scopes a salt in its events means
    mirror.py       `CacheMirror`: what it holds now, to foresee how much of a prompt is cached
"""
