"""Graph: rows that name each other in any order, into a draft in which who waits stands below.

Pure. Finds what no trace may have: names of nobody, and circles. Rows that wait for each other,
share a session or name each other as kin are one program.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from radixroute.replay.errors import BadTrace
from radixroute.replay.traces.draft import TraceDraft


@dataclass(frozen=True, slots=True)
class Node:
    """One request, by its name in the file."""

    name: str
    tokens: tuple[int, int]  # of prompt and output
    blocks: list[int] | None
    start_ns: int | None  # when it comes if it waits for nobody; None: the file does not say
    delay_ns: int = 0  # after the last of those it waits for
    wait_for: tuple[str, ...] = ()  # names
    kin: tuple[str, ...] = ()  # sessions and names of its program, beside those it waits for


def drafted(nodes: Sequence[Node], block_size: int) -> TraceDraft:
    """Raises `BadTrace`. O(nodes and what they wait for)."""
    draft, programs = TraceDraft(block_size), _programs(nodes)
    number_by_name: dict[str, int] = {}
    for node in _who_waits_below(nodes):
        start_ns = node.delay_ns if node.wait_for else node.start_ns
        if start_ns is None:
            raise BadTrace(f"request {node.name} waits for nobody and has no time: when is it?")
        number_by_name[node.name] = draft.add(
            start_ns,
            node.tokens,
            node.blocks,
            after=[number_by_name[name] for name in node.wait_for] or None,
            program=programs[node.name],
        )
    return draft


def _who_waits_below(nodes: Sequence[Node]) -> list[Node]:
    """Each below those it waits for; else in the file's order."""
    by_name = {node.name: node for node in nodes}
    placed, path, found = set[str](), set[str](), list[Node]()
    for node in nodes:
        # Depth first, without recursion: chains of thousands of turns are usual.
        stack = [(node, iter(node.wait_for))]
        if node.name in placed:
            continue
        path.add(node.name)
        while stack:
            here, rest = stack[-1]
            name = next((one for one in rest if one not in placed), None)
            if name is None:
                stack.pop()
                path.remove(here.name)
                placed.add(here.name)
                found.append(here)
            elif name not in by_name:
                raise BadTrace(f"request {here.name} waits for {name}, and no row is called that")
            elif name in path:
                raise BadTrace(f"request {name} waits for itself, over others")
            else:
                path.add(name)
                stack.append((by_name[name], iter(by_name[name].wait_for)))
    return found


def _programs(nodes: Sequence[Node]) -> dict[str, int]:
    """By name of the request: the number of its program."""
    root: dict[str, str] = {}

    def root_of(name: str) -> str:
        root.setdefault(name, name)
        while root[name] != name:
            root[name] = name = root[root[name]]
        return name

    for node in nodes:
        mine = request_kin(node.name)
        for other in (*map(request_kin, node.wait_for), *node.kin):
            root[root_of(other)] = root_of(mine)
    number_by_root: dict[str, int] = {}
    return {
        node.name: number_by_root.setdefault(root_of(request_kin(node.name)), len(number_by_root))
        for node in nodes
    }


def request_kin(name: str) -> str:
    """As `Node.kin` names a request."""
    return f"request {name}"


def session_kin(name: str) -> str:
    """As `Node.kin` names a session."""
    return f"session {name}"
