"""Hashed: rivals that place a prompt by a hash of how it begins, and look at loads afterwards.

What begins alike goes to the same few workers whatever their caches are believed to hold. Hashes of
workers and of beginnings are in `formula/hashing.py`.

bounded_loads.py       a ring of hashes, passed on where a worker has its share
dualmap.py             DualMap: the better of two hashed workers, switched by a goal
session_affinity.py    rendezvous hashing with bounded loads, by session
"""
