"""HTTP on bare sockets, for bytes that leave by `sendfile`: what all that give files have in common."""
