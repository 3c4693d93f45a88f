"""Refuse that this thread opens a connection: data that are not on disk are said, not fetched."""

import contextlib
import socket
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def no_downloads(remedy: str) -> Iterator[None]:
    """Make every look-up of a host's address by this thread an error that names the remedy.

    MOABB's datasets fetch what they do not find, each in its own way. Addresses of this machine
    itself, and other threads, are left alone.
    """
    here = threading.get_ident()
    look_up = socket.getaddrinfo

    def refused(host, *args, **options):
        local = host in (None, "", "localhost", "127.0.0.1", "::1", socket.gethostname())
        if threading.get_ident() == here and not local:
            raise OSError(f"not on disk, and fetching it from {host} was not asked for: {remedy}")
        return look_up(host, *args, **options)

    socket.getaddrinfo = refused
    try:
        yield
    finally:
        socket.getaddrinfo = look_up
