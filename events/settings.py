"""Settings of the event plane, each with its unit in its name and the reason for its default."""

from dataclasses import dataclass

from radixroute.trust.event_keys import EventKeys


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How patient a router is with one stream."""

    stale_after_s: float = 1.0  # four heartbeats: one lost beat, or a loaded machine, is no silence
    replay_timeout_s: float = 1.0  # a resend crosses one link and no engine
    snapshot_timeout_s: float = 2.0  # since the last part, not for the whole
    snapshot_interval_s: float = 0.25  # between two requests; doubles until a heartbeat agrees
    snapshot_interval_max_s: float = 8.0
    max_buffered_batches: int = 4096  # 40 s of engine steps of 10 ms
    max_replay_batches: int = 4096  # a longer gap is cheaper to mend with a snapshot


@dataclass(frozen=True, slots=True)
class PublisherSettings:
    """How a worker publishes one rank's stream."""

    host: str = "127.0.0.1"
    events_port: int = 0  # 0: any free port
    control_port: int = 0
    insecure_bind: bool = False  # allow a host that is not loopback: events are not authenticated
    advertise_host: str = ""  # what subscribers connect to; empty: `host`
    heartbeat_interval_s: float = 0.25
    max_queued_batches: int = 10_000  # between the engine's loop and the publisher's thread
    ring_batches: int = 10_000  # as vLLM's `buffer_steps`
    ring_bytes: int = 64 << 20
    send_high_water_mark: int = 10_000  # messages a slow subscriber may lag before it loses some
    snapshot_part_blocks: int = 8192  # at most 200 KB a part, far below the size limit
    max_transfers: int = 8  # resends and snapshots being sent at once, one a peer


@dataclass(frozen=True, slots=True)
class SubscriberSettings:
    """How a router receives streams."""

    max_queued_items: int = 20_000  # between the subscriber's thread and the router's loop
    max_queued_bytes: int = 256 << 20
    turn_items: int = 256  # handed to the loop at once; some 20 us each
    turn_bytes: int = 256 << 10  # of them: two parts of a snapshot
    receive_high_water_mark: int = 10_000
    max_sockets: int = 8192  # two a holder
    keys: EventKeys | None = None  # who it is, where only some may come


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How patient a router is with a foreign engine's publisher."""

    replay_timeout_s: float = 2.0  # since the last reply; vLLM looks each 100 ms when idle
    probe_interval_s: float = 5.0  # a lost tail is asked for: there is no heartbeat to name it
    max_waiting_batches: int = 4096  # behind a gap; 40 s of engine steps of 10 ms
