"""The data path beside nginx, sglang-router and vllm-router. Begin with `__main__.py`.

measures.py       what is measured of each
fronts.py         what stands between clients and engines: ours and the peers, as processes
clients.py        the clients' process from outside, and what a load cost
cpu.py            CPU time and memory of a process tree
load.py           the clients, as a process: HTTP
grpc_load.py      and gRPC
wire.py           what the two processes say to one another
bodies.py         what is asked
our_router.py     a whole router over workers of ours, as a process
http_engines.py   fake engines that look like vLLM, as a process
frame_engines.py  fake workers of ours, as a process
"""
