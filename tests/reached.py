"""What a test waits for in a thread, which would otherwise wait for good where it fails."""

import threading


class Reached(threading.Event):
    """An event whose waiting fails where it does not come in time."""

    def wait(self, timeout=30):
        assert super().wait(timeout), f"not within {timeout} s"
        return True
