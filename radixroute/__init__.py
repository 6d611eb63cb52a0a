"""radixroute: route LLM requests to where their KV cache already is.

This folder holds the front door only: the version, the command line and the config file. The rooms
(`radix`, `request`, `protos`, `events`, `worker`, `router`, `replay`, `deploy`, `demo`) live at the
top of the repository and install as `radixroute.<room>`; the links beside this file let tools find
them.
"""

__version__ = "0.1.0"
