"""Who may come in: bearer keys, the same at every door.

Never logs a key, and never says which one was wrong.

    keys.py            names and keys of a file, read again when it changes
    inspect_guard.py   what a router shows of itself is for who has a key, or is on its machine
"""
