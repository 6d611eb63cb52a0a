"""The commands under `kv`: what a KV cache costs and what it is worth.

command.py   the group
lab.py       `kv lab`
model.py     a model's KV cache as options name it
plan.py      `kv plan`
"""
