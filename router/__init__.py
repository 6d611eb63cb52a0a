"""Router: sends each request to the worker that answers it soonest, and can say why.

Owns requests in flight: who lives, what each worker was given, which policy chooses, what clients
get, resumed elsewhere if a worker dies. Never imports Ray, and never holds the truth about caches:
it believes what event streams tell.

The way in: `RouterService` (`service.py`) puts one router together; `RouterCore`
(`core/router_core.py`) is the router without I/O, which simulations drive, too.

    service.py      composition: settings, core, runtime, doors, event subscriber, tick
    observer.py     the seam for whoever looks at a live router
    runtime.py      drives the core in one loop and performs what it asks for; knows no door
    ticker.py       calls its tick as often as time alone may lead to something
    loop_lag.py     how late the loop runs what is due
    settings.py     settings of one router
    identities.py   what it shows at its doors and to its workers
    errors.py       errors, cut by what the caller can do
    counters.py     named counters: every drop and refusal has one
    api/            doors: gRPC today; a new door is one folder or file there
    links/          all that speaks to workers
    core/           requests in flight, without clock or I/O
    policy/         ways of giving requests to workers
    workers/        what is known of workers: membership, load, speed
    messages/       what goes into the core and what comes out

Imports point one way: `service` > `observer` > `api`, `ticker` > `runtime` > `links` > `core` >
`policy` > `workers` > `messages` > `identities` > `counters`, `settings`, `loop_lag`, `errors`.
"""
