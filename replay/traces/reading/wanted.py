"""What whoever reads a file says of it, where its format leaves that open. Values only."""

from dataclasses import dataclass

from radixroute.replay.traces.chats.encoder import PromptEncoder
from radixroute.replay.traces.reading.session_rows import AUTO


@dataclass(frozen=True, slots=True)
class ChatTimes:
    """When the chats of a log without times come."""

    # One conversation a second, and ten seconds to read an answer and to write: what a load test
    # begins with. No log says it, so whoever reads one is told.
    conversations_per_s: float = 1.0  # drawn: gaps are exponential
    think_s: float = 10.0  # from the end of an answer to the next message
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """None: as the format has it."""

    block_size: int | None = None  # tokens of a block id
    time_unit: str | None = None  # of `times.UNITS`
    default_output: int | None = None  # tokens, of rows that do not say
    session_rows: str = AUTO  # of `session_rows.FORMS`
    encoder: PromptEncoder | None = None  # of logs that hold text
    chat_times: ChatTimes = ChatTimes()
    limit: int | None = None  # requests; more rows are not read where that takes long
