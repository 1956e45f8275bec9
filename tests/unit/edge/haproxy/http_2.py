"""As much of HTTP/2 (RFC 9113, RFC 7541) as a test of one request on a connection needs."""

HEADERS, PING, GOAWAY = 1, 6, 7
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)  # and no settings
_INDEXED = {0x88: b"200", 0x8C: b"400", 0x8D: b"404", 0x8E: b"500"}


def request(path, headers, *, websocket=False):
    """Return the bytes of a connection's first request, whose headers are literal."""
    block = _literal(":method", "CONNECT") if websocket else b"\x82"  # GET
    block += _literal(":protocol", "websocket") if websocket else b""  # RFC 8441
    block += b"\x87" + _literal(":path", path) + _literal(":authority", "localhost")
    block += _literal("sec-websocket-version", "13") if websocket else b""
    block += b"".join(_literal(*each) for each in headers.items())
    flags = b"\x04" if websocket else b"\x05"  # what follows a request for a WebSocket is its own
    return _PREFACE + _frame(HEADERS, flags, b"\x00\x00\x00\x01", block)


def ping():
    """Return the bytes of a question that the other side answers."""
    return _frame(PING, b"\x00", bytes(4), b"anybody?")


def frames(connection):
    """Yield the kind and the body of each frame that comes, until the connection is closed."""
    with connection.makefile("rb") as file:
        while head := file.read(9):
            yield head[3], file.read(int.from_bytes(head[:3], "big"))


def status(block):
    """Return the status of a response, from its headers."""
    block = block[1:] if block[0] >> 5 == 1 else block  # the size of its table
    return _INDEXED.get(block[0]) or block[2 if block[0] & 0x40 else 3 :][:3]


def _literal(name, text):
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(text)]) + text.encode()


def _frame(kind, flags, stream, body):
    return len(body).to_bytes(3, "big") + bytes([kind]) + flags + stream + body
