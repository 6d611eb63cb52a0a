"""KV caches, looked into: what they cost and what they are worth, on this machine.

Owns the lab. Serves nobody: it measures and draws. Called by the command line.

    lab/      `kv lab`: experiments, and the page that shows them
"""
