"""Dialects: what one kind of engine takes and gives over HTTP, as bytes; pure.

A `Dialect` asks an engine what it is, writes requests, reads answers as they come and engine
numbers. No socket, no clock, no table of requests: `Companion` has those.

    dialect.py       `Dialect`, the seam, and the records that cross it
    detecting.py     which of them an engine speaks
    vllm.py          `VllmDialect`: requests and answers of vLLM's /v1/completions
    vllm_facts.py    what a vLLM says of itself: models, metrics, event sources
    sglang.py        `SglangDialect`: requests and answers of SGLang's /generate
    sglang_facts.py  what an SGLang says of itself: server info, models, metrics
    openai.py        `OpenAiDialect`: any server that has no more than OpenAI's API
    common/          what several of them share
"""
