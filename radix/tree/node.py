"""Node of a `RadixTree`: a run of symbols and the block ids that hold their KV.

The functions here keep links and runs straight (split, trim, attach, detach) and decide nothing:
what is locked, counted or evicted is the tree's business. Only `radix_tree`, `eviction`
and `check` touch a node. Nothing recurses: prompts are long.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)


@dataclass(slots=True, eq=False)
class Node(Generic[S]):
    """`blocks[i]` holds the KV of `symbols[i]`. Only the root's run is empty."""

    born: int  # unique in a tree, growing
    symbols: list[S]
    blocks: list[int]
    parent: "Node[S] | None"
    locks: int = 0  # refs that end at this node's end or below it
    touched_ns: int = 0  # never less than a child's; the root's stays 0
    uses: int = 0  # requests that touched it and ended; never less than a child's
    used_at: int = 0  # blocks the tree had ever stored when the last of them ended
    interval: int = 0  # of `eviction.LeafFacts`
    end: int = 0  # blocks from the root to its end
    is_over: bool = False  # only a session that is over used it: `RadixTree.unlock`
    children: "dict[S, Node[S]]" = field(default_factory=dict)  # by first symbol
    queued: "tuple[int, int, int, Node[S]] | None" = None  # its entry while it is in the queue


@dataclass(frozen=True, slots=True)
class Walk(Generic[S]):
    """Nodes below some start that agree with the wanted symbols; only the last may do so partly."""

    nodes: list[Node[S]]
    length: int  # symbols in agreement
    last_len: int  # of them in the last node


def walk(start: Node[S], wanted: list[S]) -> Walk[S]:
    """Follow `wanted` from the end of `start` as far as it goes. Pure, O(length + nodes)."""
    nodes: list[Node[S]] = []
    node, done, agree = start, 0, 0
    while done < len(wanted):
        child = node.children.get(wanted[done])
        if child is None:
            break
        agree = _agreement(child.symbols, wanted, done)
        nodes.append(child)
        node, done = child, done + agree
        if agree < len(child.symbols):
            break
    return Walk(nodes, done, agree)


def _agreement(run: list[S], wanted: list[S], start: int) -> int:
    part = wanted[start : start + len(run)]
    if part == run:  # the usual case, at the speed of C
        return len(run)
    for i, (mine, theirs) in enumerate(zip(run, part, strict=False)):
        if mine != theirs:
            return i
    return len(part)


def upwards(node: Node[S], until: Node[S] | None = None) -> Iterator[Node[S]]:
    """`node` and its ancestors, up to but without `until`; the root ends it in any case."""
    at: Node[S] | None = node
    while at is not None and at is not until:
        yield at
        at = at.parent


def downwards(node: Node[S]) -> list[Node[S]]:
    """`node` and everything below it, parents first."""
    found = [node]
    for at in found:  # grows while it is read
        found.extend(at.children.values())
    return found


def attach(child: Node[S], parent: Node[S]) -> None:
    child.parent = parent
    parent.children[child.symbols[0]] = child


def detach(child: Node[S]) -> Node[S]:
    """Cut `child` off with all that is below it; returns its former parent."""
    parent = child.parent
    if parent is None:
        raise ValueError("the root has no parent")
    del parent.children[child.symbols[0]]
    child.parent = None
    return parent


def split(node: Node[S], at: int, born: int) -> Node[S]:
    """Put a new node above `node` that takes its first `at` symbols; returns the new one.

        parent -> [a b c d]      becomes      parent -> [a b] -> [c d]
                    node                                 new      node

    The object below stays, so whoever refers to its end still does. O(run).
    """
    parent = detach(node)
    upper = Node(
        born,
        node.symbols[:at],
        node.blocks[:at],
        None,
        locks=node.locks,
        touched_ns=node.touched_ns,
        uses=node.uses,
        used_at=node.used_at,
        interval=node.interval,
        end=node.end - len(node.symbols) + at,
        is_over=node.is_over,
    )
    del node.symbols[:at], node.blocks[:at]
    attach(upper, parent)
    attach(node, upper)
    return upper


def append(node: Node[S], symbols: Sequence[S], blocks: Sequence[int]) -> None:
    node.symbols.extend(symbols)
    node.blocks.extend(blocks)
    node.end += len(symbols)


def trim(node: Node[S], n: int) -> list[int]:
    """Cut the last `n` symbols, fewer than all; returns their blocks, the very last first."""
    cut = node.blocks[-n:]
    del node.symbols[-n:], node.blocks[-n:]
    node.end -= n
    cut.reverse()
    return cut
