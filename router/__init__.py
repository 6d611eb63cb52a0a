"""Requests in flight: members, load book, policies, dispatch, gRPC face, inspection.

Never knows Ray, and never owns the truth about caches: it only believes what events say.
"""
