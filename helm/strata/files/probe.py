"""Ask a release whether its models are ready, or send each an inference; no library is needed.

Usage: probe.py ready|infer URL TIMEOUT_S [MODEL...]

`ready` waits until every model answers that it is ready. `infer` sends zeros by the model's own
metadata as V2 and as V1, and compares names, datatypes, shapes and both answers. Half floats, which
V2 does not have as JSON, go by V1 alone. STRATA_API_KEY has a key where the release asks for one.
Where it speaks HTTPS, STRATA_CERTIFICATE names the file of its certificate, and
STRATA_CLIENT_CERTIFICATE and STRATA_CLIENT_KEY those of a client where it asks for one.
"""

import http.client
import json
import math
import os
import ssl
import sys
import time
import urllib.error
import urllib.request

ZEROS = {"BYTES": "", "BOOL": False}
NOT_IN_JSON = {"FP16", "BF16"}  # by V2
PERIOD_S = 2.0
END = "-----END CERTIFICATE-----"


class Failed(Exception):
    """What was asked is not so; the message says what came instead."""


def call(url, body=None):
    """Return the JSON of a 200; anything else raises Failed."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    key = os.environ.get("STRATA_API_KEY")
    if key:
        headers["X-API-Key"] = key
    request = urllib.request.Request(url, data, headers)
    try:
        https = urllib.request.HTTPSHandler(context=context())
        opener = urllib.request.build_opener(NoRedirects, https)
        with opener.open(request, timeout=120) as response:
            return json.loads(response.read() or b"{}")
    except urllib.error.HTTPError as err:
        raise Failed(f"{url}: {err.code} {err.read()[:500].decode(errors='replace')}") from err
    # One that speaks TLS answers HTTP by what is none.
    except (OSError, ValueError, http.client.HTTPException) as err:
        raise Failed(f"{url}: {err}") from err


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves a redirect the answer that it is: the key goes to the release and nowhere else."""

    def redirect_request(self, *_):
        return None


def context():
    """Return what trusts the one certificate that the release has, for whichever host it is.

    None without one. The file is read each time, since a Secret is renewed.
    """
    certificate = os.environ.get("STRATA_CERTIFICATE")
    if not certificate:
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    with open(certificate, encoding="ascii", errors="replace") as file:
        text = file.read()
    made.load_verify_locations(cadata=text[: text.index(END) + len(END)])
    if "STRATA_CLIENT_CERTIFICATE" in os.environ:
        named = os.environ["STRATA_CLIENT_CERTIFICATE"], os.environ["STRATA_CLIENT_KEY"]
        made.load_cert_chain(*named)
    return made


def until(deadline, ask):
    """Ask again until it does not fail; the last failure after the deadline."""
    said = ""
    while True:
        try:
            return ask()
        except Failed as err:
            if time.monotonic() > deadline:
                raise
            if str(err) != said:
                print(f"waiting: {err}", flush=True)
            said = str(err)
            time.sleep(PERIOD_S)


def ready(url, model, deadline):
    until(deadline, lambda: call(f"{url}/v2/models/{model}/ready"))
    return "ready"


def infer(url, model, deadline):
    path = f"{url}/v2/models/{model}"
    metadata = until(deadline, lambda: call(path))
    tensors = [zeros(tensor) for tensor in metadata["inputs"]]
    has_halves = any(t["datatype"] in NOT_IN_JSON for t in [*tensors, *metadata["outputs"]])
    answer = {} if has_halves else call(f"{path}/infer", {"inputs": tensors})
    outputs = {tensor["name"]: tensor for tensor in answer.get("outputs", [])}
    for wanted in [] if has_halves else metadata["outputs"]:
        compare(wanted, outputs.get(wanted["name"]))
    columns = {t["name"]: nest(list(t["data"]), t["shape"]) for t in tensors}
    columns = columns if len(columns) > 1 else next(iter(columns.values()))
    predicted = call(f"{url}/v1/models/{model}:predict", {"inputs": columns})["outputs"]
    if has_halves:
        return ", ".join(f"{t['name']} {t['datatype']}" for t in metadata["outputs"])
    if not isinstance(predicted, dict):
        predicted = {next(iter(outputs)): predicted}
    for name, tensor in outputs.items():
        if tensor["datatype"] != "BYTES" and not close(flat(predicted[name]), tensor["data"]):
            raise Failed(f"{model}: V1 and V2 differ in '{name}'")
    return ", ".join(f"{t['name']} {t['datatype']} {t['shape']}" for t in outputs.values())


def zeros(tensor):
    shape = [1 if size < 0 else size for size in tensor["shape"]]
    count = 1
    for size in shape:
        count *= size
    data = [ZEROS.get(tensor["datatype"], 0)] * count
    return {**tensor, "shape": shape, "data": data}


def compare(wanted, got):
    """Raise Failed if an output is not what the metadata says."""
    if got is None or got["datatype"] != wanted["datatype"]:
        raise Failed(f"output {wanted} is missing, there is {got}")
    sizes = zip(wanted["shape"], got["shape"], strict=False)
    fits = len(wanted["shape"]) == len(got["shape"]) and all(w in (-1, g) for w, g in sizes)
    if not fits:
        raise Failed(f"output '{wanted['name']}' has shape {got['shape']}, not {wanted['shape']}")


def nest(data, shape):
    """Return flat data as lists in lists."""
    if not shape:
        return data.pop(0)
    return [nest(data, shape[1:]) for _ in range(shape[0])]


def flat(value):
    return [item for part in value for item in flat(part)] if isinstance(value, list) else [value]


def close(left, right):
    pairs = zip(left, right, strict=False)
    return len(left) == len(right) and all(near(a, b) for a, b in pairs)


def near(a, b):
    # NaN and infinities, which zeros may well give, are near themselves alone.
    return (
        a == b or (math.isnan(a) and math.isnan(b)) or abs(a - b) <= 1e-4 + 1e-3 * abs(b) < math.inf
    )


def main(verb, url, timeout_s, *models):
    deadline = time.monotonic() + float(timeout_s)
    for model in models:
        said = {"ready": ready, "infer": infer}[verb](url, model, deadline)
        print(f"{model}: {said}", flush=True)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failed as err:
        sys.exit(f"{err}")
