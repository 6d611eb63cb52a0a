"""Proof of every invariant of a `RadixTree`, from scratch and independent of its own counting.

Pure: reads nodes and raises `BrokenInvariant`. Called by `RadixTree.check`; O(blocks).
"""

from collections import Counter

from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.tree.node import Node, S, downwards, upwards


def check_tree(
    root: Node[S], ref_ends: list[Node[S]], queued: list[Node[S]], totals: tuple[int, int]
) -> None:
    """`totals`: blocks and evictable blocks, as the tree counts them."""
    nodes = downwards(root)
    below_root = nodes[1:]
    _must(not root.symbols and not root.blocks and root.parent is None, "the root owns nothing")
    for node in below_root:
        _check_run(node)
    _must(root.touched_ns == 0, "new prompts would begin as recently used")
    for node in nodes:
        _check_children(node)
    _check_locks(nodes, ref_ends)
    leaves = [node for node in below_root if node.locks == 0 and not node.children]
    _must(Counter(map(id, queued)) == Counter(map(id, leaves)), "the queue is not the free leaves")
    _must(all((node.queued is not None) == (node in queued) for node in nodes), "a stale entry")
    owned = [block for node in below_root for block in node.blocks]
    _must(len(set(owned)) == len(owned), "a block is in two places")
    evictable = sum(len(node.blocks) for node in below_root if node.locks == 0)
    _must((len(owned), evictable) == totals, "counts differ from the nodes")
    born = [node.born for node in nodes]
    _must(len(set(born)) == len(born), "two nodes were born as one")


def _check_run(node: Node[S]) -> None:
    _must(len(node.symbols) > 0, "a node is empty")
    _must(len(node.symbols) == len(node.blocks), "symbols and blocks differ in number")
    above = 0 if node.parent is None else node.parent.end
    _must(node.end == above + len(node.symbols), "a run ends elsewhere")


def _check_children(node: Node[S]) -> None:
    for first, child in node.children.items():
        _must(child.parent is node, "a child has another parent")
        # A dict holds one child for each first symbol, if it is filed under the right one.
        _must(child.symbols[0] == first, "a child is filed under another symbol")
        is_newer = child.touched_ns > node.touched_ns and node.parent is not None
        _must(not is_newer, "a child is more recent than its parent")
        _must(child.uses <= node.uses, "a child was used without its parent")


def _check_locks(nodes: list[Node[S]], ref_ends: list[Node[S]]) -> None:
    expected = Counter(id(at) for end in ref_ends for at in upwards(end))
    for node in nodes:
        _must(node.locks == expected[id(node)], "locks differ from the refs below")
    _must(set(expected) <= {id(node) for node in nodes}, "a ref ends outside the tree")


def _must(holds: bool, claim: str) -> None:
    if not holds:
        raise BrokenInvariant(f"radix tree: {claim}")
