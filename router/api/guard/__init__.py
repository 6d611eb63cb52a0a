"""Who may come in, and that nobody listens: bearer keys and TLS, the same at every door.

Never logs a key, and never says which one was wrong.

    keys.py            names and keys of a file, read again when it changes
    tls.py             one certificate for both doors
    inspect_guard.py   what a router shows of itself is for who has a key, or is on its machine
"""
