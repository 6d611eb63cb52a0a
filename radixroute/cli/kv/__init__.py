"""The commands under `kv`: what a KV cache costs and what it is worth.

command.py   the group
plan.py      `kv plan`
"""
