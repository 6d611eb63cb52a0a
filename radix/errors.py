"""Everything that `radix` raises, cut by what the caller can do.

RadixError
├── LocalMisuse        the caller broke a contract: fix the calling code
│   ├── UnknownHolder  `join` comes first
│   ├── HolderExists   `leave` comes first
│   └── StaleMatch     the tree changed since `match`: match again
├── BrokenInvariant    a bug of ours: `check` found it, here or in another room
└── BrokenKernel       compiled code does not hash as written: clear its cache, or report
"""


class RadixError(Exception):
    """Root of this room's errors."""


class LocalMisuse(RadixError):
    """The caller broke a contract; nothing was changed."""


class UnknownHolder(LocalMisuse):
    """This holder has not joined the index."""


class HolderExists(LocalMisuse):
    """This holder has joined the index already."""


class StaleMatch(LocalMisuse):
    """The tree changed between `match` and `lock`."""


class BrokenInvariant(RadixError):
    """A bug of ours: state that must not be. Every room raises this one."""


class BrokenKernel(RadixError):
    """A compiled kernel fails its golden vector."""
