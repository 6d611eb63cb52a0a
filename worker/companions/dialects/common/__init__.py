"""What several dialects share, as bytes and values; pure. Knows no dialect by name.

completions.py   the stream of /v1/completions, read, and what its errors mean
headers.py       headers of requests on their way there
known_events.py  events that were read once and come again
verbatim.py      requests as clients wrote them, and what tells their tokens
passages.py      what an answer that goes by as it is says of itself
models.py        what is served: /v1/models
tokenizing.py    /tokenize: asked, and read
salting.py       salts as an engine is given them
places.py        addresses of event sockets, for who connects
sse.py           server-sent events: bytes to data lines
prometheus.py    the text of a metrics page, read
"""
