"""Write values as Grafana writes them: three digits, and the unit's own steps."""

import math

_SECONDS = [
    (1e-6, 1e-9, "ns"),
    (1e-3, 1e-6, "µs"),
    (1.0, 1e-3, "ms"),
    (120.0, 1.0, "s"),
    (7200.0, 60.0, "min"),
    (172800.0, 3600.0, "h"),
    (math.inf, 86400.0, "days"),
]
_THOUSANDS = ["", " K", " Mil", " Bil"]
_BYTES = [" B", " KiB", " MiB", " GiB", " TiB"]
_STEPS = {
    "short": (1000, _THOUSANDS, ""),
    "reqps": (1000, _THOUSANDS, " req/s"),
    "rowsps": (1000, _THOUSANDS, " rows/s"),
    "ops": (1000, _THOUSANDS, " ops/s"),
    "bytes": (1024, _BYTES, ""),
    "Bps": (1000, [" B/s", " kB/s", " MB/s", " GB/s"], ""),
}


def written(value: float, unit: str) -> str:
    """Return a value as text with its unit; `unit` is Grafana's name of it."""
    if math.isnan(value):
        return "-"
    if unit.startswith("currency:"):
        return unit.removeprefix("currency:") + _stepped(value, 1000, ["", "K", "M"])
    if unit in {"percent", "percentunit"}:
        return _percent(value * (100 if unit == "percentunit" else 1))
    if unit == "s":
        return _seconds(value)
    base, steps, suffix = _STEPS[unit]
    return _stepped(value, base, steps) + suffix


def _percent(value: float) -> str:
    # 99.95 % is another objective than 100 %.
    digits = _digits(round(value, 2), 4) if 99 < value < 100 else _digits(value)
    return f"{digits}%"


def _seconds(value: float) -> str:
    if value == 0:
        return "0 s"
    scale, name = next((scale, name) for most, scale, name in _SECONDS if abs(value) < most)
    return f"{_digits(value / scale)} {name}"


def _stepped(value: float, base: int, names: list[str]) -> str:
    step = 0
    while abs(value) >= base and step < len(names) - 1:
        value, step = value / base, step + 1
    return _digits(value) + names[step]


def _digits(value: float, digits: int = 3) -> str:
    if value == 0 or abs(value) < 5e-4:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{min(decimals, 4)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
