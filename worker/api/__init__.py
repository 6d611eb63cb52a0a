"""The worker's side of the wire: gRPC messages in, answers as text out.

Owns the server with its port and health, the worker sessions with what waits to be sent, and the
text of each answer. Never schedules, computes or judges load, and never imports the process or the
model: the engine is reached through `EngineCommands`. One event loop.

The way in is `EngineServer` (`server.py`): its `Session` is what a router calls, its `Generate`
what a direct client calls.

    server.py            `EngineServer` (the RPCs of `Engine`) and `WorkerServer` (port, health)
    describe.py          what a worker says of itself to a router that joins it
    answers/             what the engine put out, as text and as messages
    frames/              worker sessions over plain sockets
    inbox.py             what the messages of a worker session do, however they came
    intake.py            submits and prompt chunks become whole, checked requests
    worker_session.py    one caller's requests, and what waits to be sent to it
    worker_sessions.py   who has one open, and who gets which output of a step
    commands.py          what worker sessions ask of the engine
    fences.py            of two attempts at one request, the higher alone goes on
    meter.py             sums over the engine's steps
    page.py              the port of GET /metrics, and what only this process measures
    metrics.py           what the page at `/metrics` shows of a worker
"""
