"""The bare echo behind an HAProxy that is set up as Ray Serve sets up its own.

Run as `python echo_haproxy_server.py <haproxy> <port> <port of the echo>`.
"""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

_ECHO = Path(__file__).with_name("echo_server.py")
# After Ray Serve's template with Strata's settings: one thread, 64 KiB buffers, whole requests.
_CONFIG = """\
global
    maxconn 4096
    nbthread 1
    tune.bufsize 65536
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option abortonclose
    option splice-request
    option splice-response
    option redispatch 1
    retry-on conn-failure empty-response
    option http-buffer-request
    retries 2
    option http-no-delay
    option idle-close-on-response
    balance leastconn
frontend http_frontend
    bind 127.0.0.1:{port}
    acl is_echo path_beg /v2/models/digits/
    use_backend echo if is_echo
    default_backend nothing
backend nothing
    http-request return status 404 content-type text/plain string "not here"
backend echo
    http-reuse always
    server replica 127.0.0.1:{echo_port}
"""


def main() -> None:
    """Serve until SIGTERM."""
    haproxy, port, echo_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "haproxy.cfg"
        config.write_text(_CONFIG.format(port=port, echo_port=echo_port))
        echo = subprocess.Popen([sys.executable, str(_ECHO), str(echo_port)])
        edge = subprocess.Popen([haproxy, "-db", "-f", str(config)])
        signal.signal(signal.SIGTERM, lambda *_: edge.terminate())
        edge.wait()
        echo.terminate()
        echo.wait()


if __name__ == "__main__":
    main()
