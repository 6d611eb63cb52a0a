"""Dialects: what one kind of engine takes and gives over HTTP, as bytes; pure.

A `Dialect` asks an engine what it is, writes requests, reads answers as they come and engine
numbers. No socket, no clock, no table of requests: `Companion` has those.

    dialect.py      `Dialect`, the seam, and the records that cross it
    passages.py     what an answer that goes by as it is says of itself
    sse.py          server-sent events: bytes to data lines
    prometheus.py   the text of a metrics page, read
    vllm.py         `VllmDialect`: requests and answers of vLLM's /v1/completions
    vllm_facts.py   what a vLLM says of itself: models, metrics, event sources
"""
