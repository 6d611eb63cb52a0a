"""What several dialects share, as bytes and values; pure. Knows no dialect by name.

completions.py  the stream of /v1/completions, read, and what its errors mean
models.py       what is served: /v1/models
tokenizing.py   /tokenize: asked, and read
salting.py      salts as an engine is given them
places.py       addresses of event sockets, for who connects
sse.py          server-sent events: bytes to data lines
prometheus.py   the text of a metrics page, read
"""
