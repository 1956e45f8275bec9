from serve.replica import load_progress
from serve.replica.load_progress import LoadProgress


def test_progress_says_the_phase_how_much_of_it_is_done_and_since_when(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(load_progress.time, "monotonic", clock.monotonic)
    progress = LoadProgress()
    progress._started = clock.now
    clock.now += 12.4
    progress("reading", 1_230_000_000, 2_100_000_000)
    assert str(progress) == "reading 1.2 of 2.1 GB, begun 12 s ago"
    progress("warming up", 0, 0)
    assert str(progress) == "warming up, begun 12 s ago"
