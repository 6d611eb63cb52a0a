"""Real vLLM servers, on CPU, as workers: does what is promised of other engines hold? Begin with
`__main__.py`; `make e2e-vllm` makes the environment first.

    install.py      the environment: vLLM for CPU, and the routers that are compared
    server.py       one vLLM: started, asked for its counters, killed
    fronts.py       what stands before the engines: ours, or another router
    predictions.py  predicted against told cached tokens, and why they differ
    deaths.py       engines and companions killed under streams; near-ties of answers
    mixed.py        one vLLM beside one engine of ours
    owned.py        `up --engine vllm`: a vLLM that a Ray worker starts, replaces and ends
    generators.py   load generators of vLLM and AIPerf against our door
    comparing.py    the demo's chats through each front: hit rate and time to first token
"""
