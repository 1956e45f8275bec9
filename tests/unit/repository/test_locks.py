import fcntl
import threading

from serve.repository.locks import locked


def test_a_lock_that_is_held_is_waited_for_or_said_to_be_held(tmp_path):
    path = tmp_path / "lock"
    entered, order = threading.Event(), []

    def wait():
        with locked(path):
            order.append("second")

    with locked(path) as is_mine:
        assert is_mine
        with locked(path, waits=False) as is_also_mine:
            assert not is_also_mine
        thread = threading.Thread(target=wait)
        thread.start()
        entered.wait(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_lock_of_a_file_that_was_removed_meanwhile_is_none(tmp_path):
    path = tmp_path / "lock"
    held = []

    def wait():
        with locked(path):
            held.append(path.exists())

    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.2)  # it waits for the file that is going
        path.unlink()
    thread.join()
    assert held == [True]
