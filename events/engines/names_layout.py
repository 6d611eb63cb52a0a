"""Layout of a name table and of flat events: every constant of their arrays, and nothing else.

A name is an engine's hash in 64-bit words, lowest first: one, or four of a digest. An entry of the
table is `WIDTH` words: key, parent (0: begins a prompt), what is held, then the name, whole:

    what is held   scope (24 bits) | group + 1 (8; 0: none) | copies on disk (10), in host memory
                   (10), on device (12)

A number of copies at its most, which is what the index counts to, stays until a clear. Without
copies an entry is empty if that word is 0, else dead. A row of `scopes` is the two words of a seed
and how many names are in that scope. A flat event is what an engine said in words: the fields
below, then the hashes.
"""

from typing import Final

import numpy as np

# Words of an entry: with names of one word, and of four.
NARROW: Final = 4
WIDE: Final = 8
PARENT: Final = 1
HELD: Final = 2
NAME: Final = 3

# What is held.
COPIES: Final = np.uint64(0xFFFFFFFF)
MOST_COPIES: Final = 1023  # in a tier
GROUP_SHIFT: Final = np.uint64(32)
GROUP_MASK: Final = np.uint64(0xFF)
MAX_GROUP: Final = 61  # so that a bit of a number stands for each
SCOPE_SHIFT: Final = np.uint64(40)
MAX_SCOPES: Final = 1 << 24
DEAD: Final = np.uint64(0xFF << 32)  # of no group, no scope

# Fields of `head`.
BITS: Final = 0  # of the table's size in entries
WIDTH: Final = 1
OLD_BITS: Final = 2
OLD_WIDTH: Final = 3
OLD_AT: Final = 4  # the next entry to move
OLD_LEFT: Final = 5  # how many places are still to be looked at
N_NAMES: Final = 6
MIX: Final = 7  # secret: else names could be made that all go to one place
OUT_OF_GROUPS: Final = 8  # bit g + 1: group g is no whole prefix
BLOCK_SIZE: Final = 9
# Of one call of `translate`.
N_WORDS: Final = 10  # written so far
UNKNOWN_REMOVALS: Final = 11  # blocks
OTHER_GROUPS: Final = 12  # events
ON_DEVICE: Final = 13  # copies of all names there
ONE_COPY: Final = 14  # 1: a name has one copy in a tier, however often it was stored
HEAD_LEN: Final = 16

# What storing a chain's names says.
STORED: Final = 0
CONFLICT: Final = 1  # a name means another block
NO_ROOM: Final = 2
TOLD: Final = 3  # some are held and would not get another copy: tell those that are new alone

# Fields of a flat event; what it stored or removed follows, `NAME_WORDS` words each.
KIND: Final = 0
LENGTH: Final = 1  # in words, all in all
N_HASHES: Final = 2
NAME_WORDS: Final = 3
GROUP: Final = 4  # + 1; 0: none
TIER: Final = 5
IS_PLAIN: Final = 6  # of a main kind or of none said, and local
MEDIUM: Final = 7  # texts: where in the payload << 32 | bytes; 0: none
SPEC_KIND: Final = 8
LOCALITY: Final = 9
EVENT_BLOCK_SIZE: Final = 10
FIRST_TOKEN: Final = 11
N_TOKENS: Final = 12
PARENT_WORDS: Final = 13  # 0: begins a prompt
PARENT_NAME: Final = 14  # four words
N_EXTRA: Final = 18  # lists of extra keys, all of them nil
EVENT_HEAD: Final = 19
NOT_OURS: Final = 3  # no tier of ours
