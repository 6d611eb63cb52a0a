"""One engine: models, paged KV pool, scheduler, sampler, and its gRPC face.

Never knows Ray or other workers. The scheduler, cache and block modules import without torch:
`replay` runs them.
"""
