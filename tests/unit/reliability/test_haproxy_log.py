"""Lines that come over UDP are kept."""

import socket

from reliability.haproxy_log import written_to


def test_each_line_is_kept(tmp_path, eventually):
    log = tmp_path / "haproxy.log"
    with written_to(log) as address, socket.socket(type=socket.SOCK_DGRAM) as sending:
        host, _, port = address.partition(":")
        for line in (b"<134>one\n", b"<134>two"):
            sending.sendto(line, (host, int(port)))
        assert eventually(lambda: log.read_bytes() == b"<134>one\n<134>two\n")
