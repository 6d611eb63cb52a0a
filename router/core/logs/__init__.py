"""Logs of one router: what it did and why, for those who look. Bounded; never a prompt.

decision_log.py    why each of the last requests went where it went
request_log.py     what was asked, and what became of it
tape.py            what is done, in order, for those who look on
"""
