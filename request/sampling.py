"""How to choose tokens and when to stop, as the engine sees it: complete and validated."""

from enum import IntEnum

import msgspec


class FinishReason(IntEnum):
    """Why a request ended; values are those of the wire."""

    STOP = 1
    LENGTH = 2
    ABORT = 3
    ERROR = 4
    FULL = 5  # its worker has no room for it now; nothing was computed
    INVALID = 6  # its worker cannot serve such a request; nobody's fault but its own


class SamplingParams(msgspec.Struct, frozen=True):
    """Complete sampling parameters: every default filled in. Build them with `limits.complete`."""

    temperature: float = 1.0  # >= 0; 0 is greedy
    top_p: float = 1.0  # (0, 1]
    top_k: int = 0  # tokens; 0 is off
    seed: int = 0  # u64: key of the RNG together with the absolute position
    max_tokens: int = 256  # output tokens, >= 1
    min_tokens: int = 0  # output tokens before a stop may end the request
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    presence_penalty: float = 0.0  # [-2, 2]; off the logit of what the output has
    frequency_penalty: float = 0.0  # [-2, 2]; times how often the output has it, off its logit
    repetition_penalty: float = 1.0  # (0, 2]; of what prompt or output have, as CTRL scales logits
    min_p: float = 0.0  # [0, 1]; share of the most likely token's probability
    logit_bias: tuple[tuple[int, float], ...] = ()  # token ids, ascending, and [-100, 100] each
    logprobs: int | None = None  # most likely tokens told beside each; None: no log probabilities

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0.0

    @property
    def reads_output(self) -> bool:
        """What it chooses depends on which of the tokens so far are output."""
        return self.presence_penalty != 0.0 or self.frequency_penalty != 0.0

    @property
    def reads_history(self) -> bool:
        """What it chooses depends on which tokens came before, not on what the model says alone."""
        return self.reads_output or self.repetition_penalty != 1.0

    @property
    def shapes_logits(self) -> bool:
        """Logits are changed before a token is drawn."""
        # Asked for each token of each request: no property asks another one here.
        return (
            self.presence_penalty != 0.0
            or self.frequency_penalty != 0.0
            or self.repetition_penalty != 1.0
            or bool(self.logit_bias)
        )
