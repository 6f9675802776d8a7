"""Hosts, and how they are put into addresses."""


def bare(host: str) -> str:
    """A host as name look-ups take it: an IPv6 address without the brackets that it may have."""
    bracketed = host.startswith("[") and host.endswith("]")
    return host[1:-1] if bracketed else host


def address(host: str, port: int) -> str:
    """A host and port as one text: `[::1]:8001`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it; of names, whether they say so."""
    return host in ("localhost", "::1") or host.startswith("127.")
