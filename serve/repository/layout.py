"""The layout of a repository: `<root>/<model>/<version>/`, and what a version folder holds.

Pure functions on names, so that they say the same of a local folder, of an object store and of
a folder about to be published. The layout is the one of TensorFlow Serving (a SavedModel in the
version folder) and of Triton (`model.savedmodel/` inside it), and Keras files beside them.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from serve.errors import RepositoryError
from serve.types import MAX_VERSION

MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.sig"  # over the manifest's bytes, by whoever published it
BASELINE = "drift-baseline.json"
SAMPLE = "sample.npz"  # inputs that the model computes, given by whoever published it
PUBLISHING = ".publishing"  # says that a version is being uploaded to an object store
SAVED_MODEL = "saved_model.pb"
WEIGHTS = ".weights.h5"  # what Keras calls files of weights alone
NESTED = "model.savedmodel"
ONNX = ".onnx"
NO_MODEL = "no model: saved_model.pb, model.savedmodel/, one .keras, .h5 or .onnx file"
NO_NUMBER = (
    "its name is no version: a version folder is called by a number, such as 1 or 00000123, of at "
    "most 9223372036854775807"
)

# Beside a SavedModel's graph: folders and files that belong to it (saved_model/constants.py).
_SAVED_MODEL_PARTS = ("variables", "assets", "assets.extra", "fingerprint.pb", "keras_metadata.pb")
_SYSTEM_FOLDERS = {"lost+found"}
_ENDINGS: tuple[Literal["keras", "h5", "onnx"], ...] = ("keras", "h5", "onnx")

Format = Literal["savedmodel", "keras", "h5", "onnx"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a folder; `stamp` changes with the content of a file, as far as the store tells.

    `problem` says why it can be used neither as a file nor as a folder, None if it can.
    """

    is_folder: bool
    bytes: int | None
    stamp: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """What a version folder holds, by relative path; a size in bytes is None where unknown.

    `stamps` change with a file's content, as far as the store tells. `problems` says of what cannot
    be read why not: a file, a folder, or the version folder itself (`""`).
    """

    files: Mapping[str, int | None]
    folders: frozenset[str]
    stamps: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)

    @property
    def revision(self) -> str:
        """A text that changes when a file of the model does; other files are left out."""
        model = find_model(self.files)
        lines = (
            f"{path} {size} {self.stamps.get(path)}"
            for path, size in sorted(self.files.items())
            if belongs_to(model, path)
        )
        text = "\n".join(lines).encode(errors="surrogateescape")
        return hashlib.sha256(text).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """Where in a version folder the model is: a folder (`""` is itself) or a file."""

    format: Format
    path: str


def version_number(name: str) -> int | None:
    """Return the version that a folder name stands for, None if it stands for none.

    As TensorFlow Serving reads them: decimal digits, zeros in front, up to MAX_VERSION. Its
    negative versions cannot be named in a URL and are none here.
    """
    number = int(name) if re.fullmatch("0*[0-9]{1,19}", name) else MAX_VERSION + 1
    return number if number <= MAX_VERSION else None


def version_folders(names: Iterable[str]) -> tuple[dict[int, str], dict[str, str]]:
    """Return the folder of each version, and why the other folders of a model are none.

    Of several names for one number TensorFlow Serving takes the one that sorts last, which has the
    fewest zeros in front; so does this.
    """
    versions: dict[int, str] = {}
    others: dict[str, str] = {}
    for name in sorted(names):
        number = version_number(name)
        if number is None:
            if not is_hidden(name) and name not in _SYSTEM_FOLDERS:
                others[name] = NO_NUMBER
            continue
        if number in versions:
            others[versions[number]] = f"it is ignored for '{name}', the same version {number}"
        versions[number] = name
    return versions, others


def find_model(files: Iterable[str]) -> ModelFile | None:
    """Return the model among the relative paths of a version folder, None if there is none.

    A SavedModel goes before a `.keras` file, that before an `.h5` file and that before an `.onnx`
    file. Of several files with the same ending only one named `model` is taken: guessing could
    serve the wrong one.
    """
    names = set(files)
    for folder in ("", NESTED):
        if str(PurePosixPath(folder, SAVED_MODEL)) in names:
            return ModelFile("savedmodel", folder)
    found = (_single_file(names, ending) for ending in _ENDINGS)
    return next(filter(None, found), None)


def no_model(files: Iterable[str]) -> str:
    """Say what a folder holds in place of a model."""
    names = sorted(name for name in files if "/" not in name)
    for ending in (".keras", ".h5", ONNX):
        several = [name for name in names if name.endswith(ending) and not name.endswith(WEIGHTS)]
        if len(several) > 1:
            return (
                f"several models ({', '.join(several)}); call the one that is meant model{ending}"
            )
    weights = next((name for name in names if name.endswith(WEIGHTS)), None)
    if weights:
        return f"{NO_MODEL}; {weights} are weights alone, save the whole model"
    return NO_MODEL


def model_path(folder: Path) -> Path:
    """Return the SavedModel's folder or the model's file in a version folder.

    A path to a single model file is returned as it is. Raises RepositoryError.
    """
    if folder.is_file():
        return folder
    entries = folder.iterdir() if folder.is_dir() else ()
    names = {path.name for path in entries if path.is_file() and not is_hidden(path.name)}
    nested = f"{NESTED}/{SAVED_MODEL}"
    found = find_model(names | {nested} if (folder / nested).is_file() else names)
    if found is None:
        raise RepositoryError(f"'{folder}' holds {no_model(names)}")
    return folder / found.path


def belongs_to(model: ModelFile | None, path: str) -> bool:
    """Tell whether a file or folder of a version is the model's or Strata's own.

    Others, such as a training's logs, may change and be unreadable while the version is served.
    """
    if path in ("", MANIFEST, SIGNATURE, BASELINE, SAMPLE):
        return True
    if model is None or path == model.path or model.format == "onnx":
        return True  # the weights of an .onnx file may lie beside it, under any name
    if model.format != "savedmodel":
        return False
    if model.path and not path.startswith(f"{model.path}/"):
        return False
    first = path.removeprefix(f"{model.path}/").partition("/")[0]
    return first == SAVED_MODEL or first in _SAVED_MODEL_PARTS


def missing(listing: Listing) -> str | None:
    """Say what a version folder lacks, judged by names alone; None if nothing."""
    model = find_model(listing.files)
    if model is None:
        return no_model(listing.files)
    if model.format != "savedmodel":
        return None
    # An empty folder of variables is what TensorFlow 1 writes for a model that has none.
    variables = str(PurePosixPath(model.path, "variables"))
    has_variables = any(path.startswith(f"{variables}/") for path in listing.files)
    return _missing_variables(listing, variables) if has_variables else None


def is_hidden(path: str) -> bool:
    """Tell whether a relative path has a part that begins with a dot; such files are no model's."""
    return any(part.startswith(".") for part in path.split("/"))


def is_inside(path: str) -> bool:
    """Tell whether a relative path stays in its folder, whatever wrote it."""
    parts = path.split("/")
    return "\\" not in path and not {"", ".", ".."} & set(parts)


def _single_file(names: set[str], ending: Literal["keras", "h5", "onnx"]) -> ModelFile | None:
    # Weights alone (Keras names them model.weights.h5) are no model.
    fitting = [name for name in names if name.endswith(f".{ending}") and "/" not in name]
    fitting = [name for name in fitting if not name.endswith(WEIGHTS)]
    if f"model.{ending}" in fitting:
        return ModelFile(ending, f"model.{ending}")
    return ModelFile(ending, fitting[0]) if len(fitting) == 1 else None


def _missing_variables(listing: Listing, variables: str) -> str | None:
    index = f"{variables}/variables.index"
    if index not in listing.files:
        return f"{index} is missing"
    shards = [path for path in listing.files if path.startswith(f"{variables}/variables.data-")]
    count = shards[0].rpartition("-of-")[2] if shards else "00001"
    if not re.fullmatch("[0-9]{5}", count):
        return f"{shards[0]} is not a whole file of variables"
    expected = (f"{variables}/variables.data-{i:05d}-of-{count}" for i in range(int(count)))
    absent = next((path for path in expected if path not in listing.files), None)
    return f"{absent} is missing" if absent else None
