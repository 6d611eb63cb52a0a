"""HTTP as a companion speaks it to one engine: few connections, kept, many answers a token at a
time.

The way in: `EngineHttp` (`client.py`).

    client.py      `EngineHttp`: connections to one engine, kept
    connection.py  one of them, and the exchange it carries
    chunks.py      whole chunks of a body, of one read of it
"""
