"""Layout of the prefix index: every constant of its flat arrays, and nothing else.

The index is four arrays. `cells` (uint64) is the arena and the whole memory budget: rows grow from
its low end, pages from its high end, and where they meet the budget binds. Row `r` is the three
words from `3 * r`; row 0 is nobody:

    word 0   the block's key
    word 1   parent row (32 bits) | child rows (24) | flags (8)
    word 2   the only entry, or (pooled) where the entries are: position (40) | n (16) | order (8)

An entry is one lane's part in a block, one word: lane (14 bits) | copies on device (10), in host
memory (8), on disk (8) | how many children of this block the lane holds (24). A lane that holds a
child but not the block itself has an entry without copies: each such child is a hole of the lane.

A count at its most counts no further and stays, until the entry or the index ends: a row is kept
that nothing needs, a lane with so many children is matched block by block, and a block with so many
copies is held until its holder clears.

A page is 4,096 words: a segment of the hash table, or cut into buddies for entries. `directory`
(int64) leads from the top bits of a key's tag to the segment; a slot is tag (32) | row (32).
`lanes` (int64, one line a lane) and `head` (int64) are the small numbers below.
"""

from typing import Final

import numpy as np

ROW_WORDS: Final = 3
PAGE_WORDS: Final = 4096
BUCKET_SLOTS: Final = 8  # one cache line
BUCKETS: Final = PAGE_WORDS // BUCKET_SLOTS
# Beyond this fill a segment splits. Linear probing over buckets of eight then reads 1.05 (found) to
# 1.2 (absent) buckets on average; measured by `probes`.
SPLIT_AT: Final = PAGE_WORDS * 7 // 10
# With no room to split, a segment fills up to here and then the index forgets.
FULL_AT: Final = PAGE_WORDS * 9 // 10
MAX_DEPTH: Final = 20  # of the directory: 2**20 segments, 3 billion blocks

MAX_ORDER: Final = 12  # a buddy of 2**12 words is a page
MAX_LANES: Final = 1 << 14
# So many entries fit the largest buddy; also bounds the holders of an index.
MAX_HOLDERS: Final = 1 << MAX_ORDER

# Word 1 of a row.
CHILD_ROW: Final = np.uint64(1 << 32)
CHILD_ROWS: Final = np.uint64(0xFFFFFF << 32)
POOLED: Final = np.uint64(1 << 56)
PARENT_KNOWN: Final = np.uint64(1 << 57)  # clear: only ever named as a parent
DOUBTED: Final = np.uint64(
    1 << 58
)  # its parent may be wrong: who holds it is matched block by block
RECENT: Final = np.uint64(1 << 59)
PROVEN: Final = np.uint64(1 << 60)  # a prompt has shown that its parent is right, and those above
LOW_32: Final = np.uint64(0xFFFFFFFF)

# Word 2 of a pooled row.
POSITION: Final = np.uint64((1 << 40) - 1)
COUNT_SHIFT: Final = np.uint64(40)
COUNT_ONE: Final = np.uint64(1 << 40)
COUNT_MASK: Final = np.uint64(0xFFFF)
ORDER_SHIFT: Final = np.uint64(56)

# An entry.
LANE_SHIFT: Final = np.uint64(50)
COPIES: Final = np.uint64(((1 << 26) - 1) << 24)
CHILDREN: Final = np.uint64((1 << 24) - 1)
TIER_SHIFTS: Final = (np.uint64(40), np.uint64(32), np.uint64(24))  # device, host, disk

# A free buddy: no lane, so that no entry looks like one. order + 1 (8 bits) | next (40); then prev.
FREE_ORDER_SHIFT: Final = np.uint64(40)

# Fields of `head`.
N_ROWS: Final = 0  # highest row ever used
FREE_ROW: Final = 1  # first of the free rows
N_USED_ROWS: Final = 2
DEPTH: Final = 3  # of the directory
N_SEGMENTS: Final = 4
PAGES_FROM: Final = 5  # the lowest cell that belongs to a page
N_DIRTY: Final = 6  # live lanes with holes: matched block by block
N_SLOW: Final = 7  # live lanes with blocks off the device
N_UNSWEPT: Final = 8  # entries of retired lanes
SWEEP_ROW: Final = 9  # where the sweep's pass stands; 0: no pass is running
NEXT_TO_FORGET: Final = 10  # a row: the parent of the one forgotten last
CLOCK_ROW: Final = 11  # where forgetting looked last
FORGOTTEN: Final = 12  # (holder, block) pairs the budget has cost
CONFLICTS: Final = 13  # times a block was told with another parent, or a prompt showed another
N_FREE_WORDS: Final = 14  # in free buddies
N_LANES: Final = 15  # highest lane ever used
FREE_BUDDY: Final = 16  # 16 + order: first free buddy of 2**order words; 0: none
N_MOVES: Final = 29  # of slots: what `seek` found may stand elsewhere since
MOVES_NOTED: Final = 31
IS_TIGHT: Final = 30  # the arena is nearly full: pin, and forget
GARBAGE_ROW: Final = 32  # where a full arena looked last for what retired lanes left
# How many rows this call may still look at for that, and to forget something.
GARBAGE_LOOKS: Final = 33
FORGET_LOOKS: Final = 34
N_UNCOUNTED: Final = 35  # copies told of blocks that have as many as can be counted
# Behind them: room for a call to note things in.
NOTES: Final = 40
MAX_NOTES: Final = 256
# With less room than this, and what its blocks may take, a call takes care that forgetting does
# not hit what it works on.
TIGHT_WORDS: Final = 8 * PAGE_WORDS
# How far the holders of a prompt's first block stayed together last time, by that block's row: a
# guess that saves a search where many prompts share a trunk.
GUESSES: Final = NOTES + MAX_NOTES
MAX_GUESSES: Final = 256
UNKNOWN_REMOVALS: Final = GUESSES + MAX_GUESSES  # by `apply`, since the start
# Where each lane's holder stands in a result, -1 if it is not alive. Dense: a match reads many.
OUT_ROWS: Final = UNKNOWN_REMOVALS + 1
HEAD_LEN: Final = OUT_ROWS + MAX_LANES

# Events packed into words: kind (8 bits) | tier; parent (0: none); number of keys; the keys.
PACKED_STORE: Final = 1
PACKED_REMOVE: Final = 2
PACKED_CLEAR: Final = 3
PACKED_KIND: Final = np.uint64(0xFF)
PACKED_TIER_SHIFT: Final = np.uint64(8)
PACKED_HEAD: Final = 3

# Fields of a lane.
STATE: Final = 1
HOLES: Final = 2  # and doubted blocks it holds
PAIRS: Final = 4  # 4, 5, 6: blocks on device, in host memory, on disk
DIGEST: Final = 7  # of the stream: what the index forgot still counts
N_COPIES: Final = 8  # of the stream
N_ENTRIES: Final = 9
LANE_FORGOTTEN: Final = 10
LANE_LEN: Final = 16

FREE_LANE: Final = 0
LIVE: Final = 1
RETIRED: Final = 2  # waits for the next pass of the sweep
SWEPT: Final = 3  # the running pass takes its entries away
