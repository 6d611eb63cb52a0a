"""`make bench-overload`: more asked than can be served, and what an input costs while many wait.

engines.py     simulated engines behind the real core, in virtual time
refusals.py    how soon a full house says so, over real gRPC
"""
