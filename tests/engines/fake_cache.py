"""The prefix cache of a fake engine, as vLLM has one: copies of one hash, LRU, its events."""

import hashlib
from collections import Counter
from typing import Any

Hash = int


def block_hash(parent: Hash | None, tokens: list[int], extra: list[str]) -> Hash:
    """Opaque to whoever listens: nothing of ours can be computed from it."""
    raw = repr((parent, tokens, extra)).encode()
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8, person=b"fake-vllm").digest())


class FakeCache:
    """`n_blocks` physical ones. A request holds a table of them until it ends."""

    def __init__(self, n_blocks: int, block_size: int, *, is_on: bool = True) -> None:
        self.block_size = block_size
        self.is_on = is_on
        self._free = list(range(n_blocks))
        self._hash: dict[int, Hash] = {}  # of cached physical blocks
        self._by_hash: dict[Hash, list[int]] = {}
        self._pins: Counter[int] = Counter()
        self._lru: dict[int, None] = {}  # cached and not pinned, oldest first
        self.events: list[dict[str, Any]] = []

    @property
    def held(self) -> Counter[Hash]:
        """Copies of each hash."""
        return Counter(self._hash.values())

    def hashes(self, tokens: list[int], extra: "Extra") -> list[Hash]:
        size, chain, parent = self.block_size, [], None
        for start in range(0, len(tokens) - size + 1, size):
            parent = block_hash(parent, tokens[start : start + size], extra.of(start == 0))
            chain.append(parent)
        return chain

    def match(self, tokens: list[int], extra: "Extra") -> list[int]:
        """Physical blocks of the longest cached prefix; one token at least is computed."""
        found: list[int] = []
        if self.is_on:
            for one in self.hashes(tokens[:-1], extra):
                if one not in self._by_hash:
                    break
                found.append(self._by_hash[one][0])
        return found

    def pin(self, blocks: list[int]) -> None:
        for block in blocks:
            self._lru.pop(block, None)
            self._pins[block] += 1

    def release(self, blocks: list[int]) -> None:
        for block in reversed(blocks):  # the tail of a prompt goes first
            self._pins[block] -= 1
            if not self._pins[block]:
                del self._pins[block]
                if block in self._hash:
                    self._lru[block] = None
                else:
                    self._free.append(block)

    def allocate(self) -> int | None:
        """A pinned block without content; None: all are pinned."""
        if not self._free:
            if not self._lru:
                return None
            self._evict(next(iter(self._lru)))
        block = self._free.pop()
        self._pins[block] += 1
        return block

    def room(self) -> int:
        return len(self._free) + len(self._lru)

    @property
    def pinned(self) -> int:
        return len(self._pins)

    def store(self, table: list[int], done: int, tokens: list[int], extra: "Extra") -> int:
        """Blocks from `done` on that are full now are cached, and told; how many there are."""
        chain = self.hashes(tokens, extra)
        if not self.is_on or len(chain) <= done:
            return done
        for at in range(done, len(chain)):
            self._hash[table[at]] = chain[at]
            self._by_hash.setdefault(chain[at], []).append(table[at])
        self._tell(chain, done, tokens, extra)
        return len(chain)

    def tell_again(self, tokens: list[int], n_blocks: int, extra: "Extra") -> None:
        """As `kv_cache_report_mode` full has it: reused blocks, as if they were stored."""
        self._tell(self.hashes(tokens, extra)[:n_blocks], 0, tokens, extra)

    def _tell(self, chain: list[Hash], done: int, tokens: list[int], extra: "Extra") -> None:
        size = self.block_size
        self.events.append(
            {
                "type": "BlockStored",
                "block_hashes": chain[done:],
                "parent_block_hash": chain[done - 1] if done else None,
                "token_ids": tokens[done * size : len(chain) * size],
                "block_size": size,
                "lora_id": 1 if extra.lora else None,
                "medium": "GPU",
                "lora_name": extra.lora or None,
                "extra_keys": [extra.of(at == 0) or None for at in range(done, len(chain))],
                "group_idx": 0,
                "kv_cache_spec_kind": "full_attention",
            }
        )

    def take_events(self) -> list[dict[str, Any]]:
        """Since the last call."""
        taken, self.events = self.events, []
        return taken

    def _evict(self, block: int) -> None:
        del self._lru[block]
        gone = self._hash.pop(block)
        self._by_hash[gone].remove(block)
        if not self._by_hash[gone]:
            del self._by_hash[gone]
        self._free.append(block)
        self.events.append(
            {"type": "BlockRemoved", "block_hashes": [gone], "medium": "GPU", "group_idx": 0}
        )


class Extra:
    """What a block's hash holds beside its tokens, as vLLM lists it."""

    def __init__(self, lora: str = "", salt: str = "") -> None:
        self.lora, self.salt = lora, salt

    def of(self, is_first: bool) -> list[str]:
        lora = [self.lora] if self.lora else []
        return [*lora, self.salt] if is_first and self.salt else lora
