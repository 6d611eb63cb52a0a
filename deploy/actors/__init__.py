"""The actors of a cluster: who starts, watches and restarts workers and the router.

Owns desired state: N workers, one router, one controller above them, and the membership pushed to
the router. Never serves traffic: requests, tokens and events use the services' own sockets.

The way in is `Supervisor` (`supervisor.py`). A worker that dies is restarted by its `ActorSlot`
(`actor_slot.py`), with a new incarnation; the controller itself is restarted by Ray.

    controller.py      the controller actor: the supervisor and the loop it lives on
    supervisor.py      keeps one slot an actor filled; tells the router who lives
    actor_slot.py      one actor's place: start, watch, restart after a pause
    ray_actors.py      actors by way of Ray: makes them, finds them again, translates errors
    actor_classes.py   `WorkerActor` and `RouterActor`, the classes that Ray runs
    router_look.py     what whoever started a router sees of it
    own_engine.py      a worker over an engine's server that it starts itself
    own_server.py      that server: its process, its orphans, its end
    actor_logging.py   each line with time and level, to stderr and a file that stays
    service_host.py    a service inside an actor: its loop, its start, its exit
    loop_thread.py     one event loop in one thread
"""
