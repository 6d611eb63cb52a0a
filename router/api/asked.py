"""Asked: what a client wants, in whatever form its door has it. The seam between doors and prompts.

Each door has a record of its own for what it reads.
"""

from dataclasses import dataclass
from typing import Protocol

from radixroute.radix.ids import Tokens
from radixroute.request.errors import InvalidRequest
from radixroute.request.limits import Limits, PartialSampling
from radixroute.request.sampling import SamplingParams
from radixroute.request.verbatim.records import Verbatim
from radixroute.router.api.giants.forms import Reading
from radixroute.router.api.giants.readers import Giant
from radixroute.router.messages.inputs import Resumed


class Addressed(Protocol):
    """What a client says beside its prompt: whom it asks, and whose request it is."""

    @property
    def model(self) -> str:
        """Empty: whatever is served."""

    @property
    def policy(self) -> str:
        """Empty: the router's."""

    @property
    def session_key(self) -> str:
        """What the client calls its session; empty: it has none."""

    @property
    def last_of_session(self) -> int | None:
        """How many requests its session had, where it is the last of it; None: nobody says so."""

    @property
    def tenant(self) -> str:
        """Empty: the default one."""

    @property
    def cache_salt(self) -> str:
        """Who shares what is cached with it; empty: all that have none."""

    @property
    def lora(self) -> str:
        """Name of an adapter; empty: the model as it is."""

    @property
    def priority(self) -> int | None:
        """Band; None: the default one."""


class Asked(Addressed, Protocol):
    """What a client asked, in the form in which its door has it. Raises InvalidRequest."""

    @property
    def is_text(self) -> bool:
        """It must be tokenised."""

    @property
    def n_bytes(self) -> int:
        """Of the prompt as it came, or a little more."""

    @property
    def resumed(self) -> Resumed | None:
        """What its client has already; None: nothing, it begins."""

    @property
    def n_messages(self) -> int:
        """Of a chat; 0: it is none."""

    @property
    def giant(self) -> Giant | None:
        """Its prompt as it came, if that is not even to be parsed beside the loop."""

    def check(self, limits: Limits) -> None:
        """What can be seen before anything is converted. O(1), but for what is over a limit."""

    def tokens(self, reading: Reading) -> Tokens:
        """Not of a giant."""

    def sampling(self) -> PartialSampling: ...


@dataclass(frozen=True, slots=True)
class AskedVerbatim:
    """What only an engine understands, as far as its door has read it."""

    asked: Addressed
    verbatim: Verbatim
    readable: Asked | None  # its prompt, where that can be read here
    renders: bool  # else an engine may be asked for its tokens: they name it
    sampling: SamplingParams  # how long the answer may be, where that is all that is known
    refusal: InvalidRequest  # where no worker takes such requests
