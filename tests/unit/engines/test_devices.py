import pytest

from serve.engines.devices import MIB, memory_limit_mib


@pytest.mark.parametrize(
    ("index", "share", "limit"), [(0, 0.5, 8192), (1, 0.25, 6144), (0, 1e-9, 1)]
)
def test_a_share_of_a_gpu_becomes_a_limit_of_its_own_card(index, share, limit):
    cards = {0: 16384 * MIB, 1: 24576 * MIB}
    assert memory_limit_mib(index, share, cards.__getitem__) == limit


def test_without_nvidia_smi_a_share_is_refused_with_the_way_out(monkeypatch):
    from serve.engines import devices
    from serve.errors import RepositoryError

    monkeypatch.setenv("PATH", "")
    with pytest.raises(RepositoryError, match="num_gpus: 1"):
        devices._total_memory(0)
