"""The address a request comes from: as one host, and as the network that one subscriber holds."""

from functools import lru_cache
from ipaddress import ip_address, ip_network


@lru_cache(4096)
def host(name: str) -> str | None:
    """An IP address as it is; None for anything else that a socket or a proxy may say."""
    try:
        return str(ip_address(name))
    except ValueError:
        return None


@lru_cache(4096)
def network(address: str | None) -> bytes:
    """What one subscriber holds: an IPv4 address, or an IPv6 network of 64 bits; empty where no address is known.

    Who counts IPv6 addresses one by one counts nobody: a subscriber has 2**64 of them.
    """
    if address is None:
        return b""
    found = ip_address(address)
    # A socket that speaks both protocols shows an IPv4 client as ::ffff:192.0.2.1.
    return (getattr(found, "ipv4_mapped", None) or found).packed[:8]


def within(address: str | None, networks: tuple[str, ...]) -> bool:
    """Whether an address is one of these, or in one of these networks."""
    if address is None:
        return False
    found = ip_address(address)
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found in ip_network(network) for network in networks)


@lru_cache(4096)
def site(address: str | None) -> bytes:
    """The 48 bits of IPv6 that a provider gives to a whole site, which then has 2**16 networks; empty for IPv4."""
    found = network(address)
    return found[:6] if len(found) == 8 else b""
