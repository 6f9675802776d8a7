"""Hosts and addresses."""


def bare(host: str) -> str:
    """Return a host as name look-ups take it: an IPv6 address without its brackets."""
    bracketed = host.startswith("[") and host.endswith("]")
    return host[1:-1] if bracketed else host


def address(host: str, port: int) -> str:
    """Return a host and port as one text, such as `127.0.0.1:8001` or `[::1]:8001`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host. Of names, only `localhost` counts."""
    return host in ("localhost", "::1") or host.startswith("127.")
