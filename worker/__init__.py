"""One worker: an LLM engine in a process of its own, behind a gRPC server.

Owns a model and its weights, the paged KV cache and what is cached in it, the scheduler, the engine
process, and the worker's side of the wire. Never knows Ray or other workers, never chooses where a
request runs, and never restarts anything: `deploy/actors/actor_slot.py` does. Everything but
`model/` imports without torch: `replay` and its tests run the scheduler and the cache.

The way in is `WorkerService` (`service.py`), which starts all of it. A request then goes
`api/server.py` -> `api/intake.py` -> `process/engine_process.py` -> (pipe) -> `process/child.py` ->
`engine/inference.py` -> `engine/scheduler.py` -> `model/torch_runner.py`, and its tokens come back
the same way.

A *session* here is always a worker session: one stream between a router and this worker.

Imports point one way: `companion_process` > `service` > `api` | `process` | `model` |
`companions` > `engine` > `settings` | `fingerprint` > `errors`.
The engine process alone brings `model` in, by the name of its runner.

    api/          the gRPC server, and which caller gets which output
    process/      the engine process: starting it, its loop, the messages to and fro
    engine/       the scheduler, the prefix cache and the steps they make; no torch
    companions/   engines that are not ours, by their URLs; no torch
    companion_process/   several of them in a process of their own
    model/        weights, GGUF files, attention and sampling in torch
    service.py    one worker, whole: starts and stops the parts and routes between them
    fingerprint.py       of a model: its configuration and weights
    settings.py   settings of one worker, with their defaults and units
    errors.py     errors, cut by what their reader can do about them
"""
