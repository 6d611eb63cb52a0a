"""What is asked: bodies that no two requests have alike, and how long they are."""

from typing import Final

MODEL: Final = "bench"
PROMPT_IDS: Final = 2048
IDS_BYTES: Final = 7_200  # what that many ids have as JSON
CHAT_BYTES: Final = 8192
FEW_IDS: Final = 64
TEXT_BYTES: Final = 1024
GIANT_BYTES: Final = 2_000_000
_SIZES: Final = {"long": IDS_BYTES, "text": TEXT_BYTES, "giant": GIANT_BYTES}
_FIRST, _BASE = 10, 200  # ids of a small vocabulary; three of them number the prompt
_WORDS = "the cat sat on the mat, hello world of quick brown foxes; "


def prompt_ids(number: int, n_ids: int = PROMPT_IDS) -> list[int]:
    """Another first block for each number: nothing is cached of it."""
    head = [_FIRST + number // _BASE**place % _BASE for place in range(4)]
    return head + [_FIRST + (7 * at) % _BASE for at in range(n_ids - len(head))]


def text(number: int, n_bytes: int) -> str:
    return (f"{number:012d} " + _WORDS * (n_bytes // len(_WORDS) + 1))[:n_bytes]


_TOOLS: Final = (
    b',"tools":[{"type":"function","function":{"name":"weather","description":"of a town",'
    b'"parameters":{"type":"object","properties":{"town":{"type":"string"}}}}}]'
)


class Bodies:
    """JSON of one kind: ids, few (of them), long (text of the same size), text, chat, tools (a chat
    of the same size with one, which goes to an engine as it is) or giant."""

    def __init__(self, kind: str, max_tokens: int, number: int) -> None:
        self._kind = kind
        self._number = number
        # vLLM's own words; our door, the peers and the engines take them alike.
        self._tail = b',"model":"%b","max_tokens":%d,"stream":true,"ignore_eos":true}' % (
            MODEL.encode(),
            max_tokens,
        )
        n_ids = FEW_IDS if kind == "few" else PROMPT_IDS
        self._rest = b",".join(b"%d" % one for one in prompt_ids(0, n_ids)[4:])

    @property
    def path(self) -> str:
        is_chat = self._kind in ("chat", "tools")
        return "/v1/chat/completions" if is_chat else "/v1/completions"

    def take(self) -> bytes:
        number, self._number = self._number, self._number + 1
        if self._kind in ("ids", "few"):
            head = b",".join(b"%d" % one for one in prompt_ids(number, 4))
            return b'{"prompt":[' + head + b"," + self._rest + b"]" + self._tail
        if self._kind in ("chat", "tools"):
            said = text(number, CHAT_BYTES).encode()
            tools = _TOOLS if self._kind == "tools" else b""
            return b'{"messages":[{"role":"user","content":"' + said + b'"}]' + tools + self._tail
        size = _SIZES[self._kind]
        return b'{"prompt":"' + text(number, size).encode() + b'"' + self._tail
