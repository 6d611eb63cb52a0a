"""How engines do with what they are sent, once they serve.

answering.py  engines that answer with errors, or not at all
engine_use.py  engines that others use, that queue with room, whose answers something holds back
failures.py   requests that end with an error, most of them, and with which
"""
