"""One target, fuzzed by libFuzzer with the coverage of Python's bytecode (atheris).

Bounds: an input that takes more memory than a request of its size may, or CPU for seconds, is a
finding like any other.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import atheris

_INSTRUMENTED = ["serve.protocols", "serve.edge", "gzip", "zipfile", "numpy.lib", "PIL"]
with atheris.instrument_imports(include=_INSTRUMENTED):
    from PIL import Image

    Image.init()  # imports the readers of all formats
    from fuzz_targets import json_mutator
    from fuzz_targets.targets import TARGETS, WITH_JSON, WORDS

_LONGEST_BYTES = 16 * 1024
# What numpy sets aside for a shape is not used, so it does not show in what is resident.
_ADDRESSES_BYTES = 2 * 1024**3
_RESIDENT_KIB = 512 * 1024  # what a picture of the most pixels takes
_CPU_S = 5.0


def main() -> None:
    """Fuzz the target that the command line names; ends with 77 and a file for a finding."""
    options = argparse.ArgumentParser(prog="scripts/fuzz")
    options.add_argument("target", choices=TARGETS)
    options.add_argument("--seconds", type=int, default=60)
    options.add_argument("--folder", type=Path, required=True)
    options.add_argument("--replay", type=Path)
    given = options.parse_args()
    if given.replay is not None:
        TARGETS[given.target](given.replay.read_bytes())
        return
    folder = given.folder / given.target
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    arguments = [
        sys.argv[0],
        f"-max_total_time={given.seconds}",
        f"-max_len={_LONGEST_BYTES}",
        "-timeout=120",
        "-rss_limit_mb=0",  # the bounds are below, per input
        "-print_final_stats=1",
        f"-artifact_prefix={folder}/",
        str(corpus),
        str(folder / "seeds"),
    ]
    if given.target in WORDS:
        words = folder / "words"
        words.write_text("".join(f'"{word}"\n' for word in WORDS[given.target]))
        arguments.insert(1, f"-dict={words}")
    mutator = {"custom_mutator": _mutate} if given.target in WITH_JSON else {}
    atheris.Setup(arguments, _bounded(given.target), **mutator)
    _bound_addresses()
    atheris.Fuzz()


def _bounded(name: str) -> Callable[[bytes], None]:
    target = TARGETS[name]
    target(b"")  # imports what is imported at the first call

    def run(data: bytes) -> None:
        resident_kib, cpu_s = _peak_kib(), time.process_time()
        target(data)
        grown_kib, cpu_s = _peak_kib() - resident_kib, time.process_time() - cpu_s
        if grown_kib > _RESIDENT_KIB:
            raise MemoryError(f"{len(data)} bytes took {grown_kib} KiB of memory")
        if cpu_s > _CPU_S:
            raise TimeoutError(f"{len(data)} bytes took {cpu_s:.1f} s of CPU")

    return run


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _bound_addresses() -> None:
    used_pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = used_pages * resource.getpagesize() + _ADDRESSES_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _mutate(data: bytes, max_size: int, seed: int) -> bytes:
    changed = json_mutator.mutate(data, seed, lambda other: atheris.Mutate(other, max_size))
    return changed[:max_size]


if __name__ == "__main__":
    main()
