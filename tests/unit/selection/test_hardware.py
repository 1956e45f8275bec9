"""A kind of hardware has one name, which differs where kernels do."""

import pytest

from serve.errors import RepositoryError
from serve.selection import hardware as module
from serve.selection.hardware import folder_of, hardware


@pytest.fixture
def cpu(tmp_path, monkeypatch):
    """Set the instructions that the system tells."""

    def instructions(line):
        (tmp_path / "cpuinfo").write_text(f"processor: 0\n{line}\n\nprocessor: 1\n{line}\n")
        monkeypatch.setattr(module, "_CPUINFO", tmp_path / "cpuinfo")
        module._processor.cache_clear()
        return hardware(0)

    yield instructions
    module._processor.cache_clear()


def test_processors_with_other_instructions_have_other_names(cpu):
    old = cpu("flags : fpu sse4_1 sse4_2 avx avx2 fma")
    new = cpu("flags : fpu sse4_2 avx2 fma avx512f avx512bw avx512_vnni amx_tile amx_bf16")
    assert old.endswith(" sse4_2+avx2+fma")
    assert new.endswith(" sse4_2+avx2+fma+avx512_vnni+amx_bf16")
    assert cpu("flags : fma avx2 sse4_2 rdrand").split() == old.split()
    assert cpu("Features : fp asimd asimddp").endswith(" asimddp")
    assert folder_of(old) != folder_of(new)
    assert len(folder_of(old)) == 12


def test_a_system_that_tells_nothing_has_a_name_too(tmp_path, monkeypatch, cpu):
    assert cpu("bogomips: 1")
    monkeypatch.setattr(module, "_CPUINFO", tmp_path / "nothing")
    module._processor.cache_clear()
    assert hardware(0)


def test_cards_are_part_of_the_name(monkeypatch):
    card = type("Card", (), {"product": "NVIDIA L4"})()
    monkeypatch.setattr(module, "visible_cards", lambda: [card, card])
    assert hardware(0.5).endswith(" with NVIDIA L4")

    def hidden():
        raise RepositoryError("no driver")

    monkeypatch.setattr(module, "visible_cards", hidden)
    assert hardware(1).endswith(" with an unknown GPU")
