"""The commands under `kv`: what a KV cache costs and what it is worth.

command.py   the group
lab.py       `kv lab`
plan.py      `kv plan`
"""
