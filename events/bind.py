"""Which addresses only this machine can reach. Every listener asks before it binds, I own the rule.

No listener of ours has credentials yet, so a wider bind must be asked for in so many words.
"""

import ipaddress


def is_loopback(host: str) -> bool:
    """False for a name other than localhost: what it resolves to may change after the check."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
