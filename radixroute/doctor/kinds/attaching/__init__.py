"""Engines before they are attached, and why some are not.

joining.py        what keeps an engine or a worker out: the join's own findings
engines.py        engines beyond their joining: ports, pools, versions, how they differ
engine_events.py  their event streams: buffers, ports, one address for several
models.py         whether two engines have one model, and what mends it where they have not
weights.py        engines under one name with other weights
"""
