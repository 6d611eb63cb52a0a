"""Plan: everything that one seed decides before time begins, as data. `drawing/` makes them."""

from dataclasses import dataclass, replace

from radixroute.router.messages.inputs import VERBATIM_NEED
from tests.simulation.deeds import Deed, over_ms

INDEX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """How one worker works."""

    name: str
    seats: int  # requests that run at once
    queue_len: int  # requests that may wait there besides
    says_seats: bool  # whether it tells the router of them
    says_queue: bool
    kv_blocks: int
    batch_tokens: int  # prompt tokens of one step
    step_us: int
    prefill_us: int  # a token
    decode_us: int  # a request
    ring_batches: int
    says_finish_apart: bool  # the last token and the finish come in two steps
    stores_again: bool  # two requests that computed one block hold two copies of it
    removes_parents_first: bool
    adapters: tuple[str, ...] = ()  # that it serves beside the model as it is
    says_position: bool = True  # of its events when it looked a prompt up: audited exactly
    takes_verbatim: bool = False

    def serves(self, need: str) -> bool:
        """What not every worker has: an adapter, verbatim requests, or both."""
        lora = need.removeprefix(VERBATIM_NEED)
        may = self.takes_verbatim or lora == need
        return may and (not lora or lora in self.adapters)


@dataclass(frozen=True, slots=True)
class Plan:
    """One seed's world."""

    seed: int
    mode: str
    workers: tuple[WorkerPlan, ...]
    deeds: tuple[Deed, ...]
    max_waiting: int = 4096
    max_waiting_tokens: int = 10**6
    max_in_flight: int = 4096
    max_in_flight_bytes: int = 10**6
    max_in_flight_tokens: int = 10**6
    index_bytes: int = INDEX_BYTES
    tenants_share: bool = True  # what is cached

    @property
    def calm_ms(self) -> int:
        """When all of its deeds are over: from then on everybody works until nothing is left."""
        return max(map(over_ms, self.deeds), default=0)

    @property
    def is_metered(self) -> bool:
        """What each input costs is counted: many wait."""
        return self.mode == "crowded"

    @property
    def is_even(self) -> bool:
        """Workers are alike, prompts share nothing, and nothing goes wrong."""
        return self.mode == "even"

    def with_deeds(self, deeds: list[Deed]) -> "Plan":
        return replace(self, deeds=tuple(deeds))
