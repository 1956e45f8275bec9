"""Makes OpenVINO's file of a SavedModel or an `.onnx` file, in a process of its own.

`python -m serve.selection.conversion SOURCE TARGET.xml`, run by trials: it may crash or hang.
"""

import sys
from pathlib import Path

from serve.selection.bounded_process import end_with_parent


def main() -> None:
    """Convert as the command line says; OpenVINO's own error ends the process."""
    from serve.engines.openvino_engine import convert

    end_with_parent()
    source, target = map(Path, sys.argv[1:3])
    convert(source, target)


if __name__ == "__main__":
    main()
