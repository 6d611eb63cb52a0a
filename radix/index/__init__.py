"""radix.index: the router's prefix index, which holder has which blocks.

Owns rows, entries, lanes and the one arena they live in; no other memory. Each overlap equals brute
force over what the events said was stored and removed, in any order (`make fuzz-index`). The
parents they name only make it quick: a prompt knows the true ones, and a false one is counted and
its holders are matched block by block. Never believes more than it was told.

The way in: `PrefixIndex` (`prefix_index.py`); what it promises is `Index` (`contract.py`).

    prefix_index.py   `PrefixIndex`: holders, lanes, forgetting; calls the kernels
    contract.py       `Index`, `Overlaps`, `Run`: what every implementation takes and promises
    reference.py      `ReferenceIndex`: the tests' truth, slow and right by reading
    check.py          every invariant of the arrays, in plain Python
    kernels.py        entry points in compiled code
    matching.py       overlaps
    proofs.py         which parents are proven by a prompt, which are doubted
    updates.py        blocks stored, blocks removed
    changes.py        holes, rows freed, blocks forgotten
    entries.py        who holds a row, in how many copies
    table.py          keys to rows: an extendible hash, a segment splits and nothing is rehashed
    arena.py          memory: rows from one end, pages from the other; where they meet is the budget
    layout.py         every constant of the arrays

A key names its whole prefix, so the sets of holders only shrink along a prompt as long as they
have no holes: eight places are probed at a time, and the place where a set shrinks is found in a
few rounds. Each entry counts the children its lane holds below the block, so `holes[lane]` is exact
at every event; a lane with holes is followed block by block. Key 0 names no block. The first prompt
over new blocks climbs from row to row and proves their parents; only proven blocks are jumped to.

    `overlaps`                    O(log blocks) where a set shrinks; O(run) for lanes with holes,
                                  and once for blocks that no prompt has shown before
    `store`, `remove`, `apply`    O(blocks); 4 rows swept a block
    `join`, `clear`, `leave`      O(1), O(1), O(holders); what was held is swept later, in steps
    `dump`, `check`               O(everything)

Kernels take the four arrays and no others; helpers take `Arrays`. Without `makes_arrays` a kernel
may not allocate. A place of an entry is used at once: taking or dropping one moves the others.
"""
