"""The platform's ingress as the commands ask it: with the API key of the environment, if any.

`strata up` has a key of its own for as long as it runs; people put theirs into STRATA_API_KEY.
"""

import os
from typing import Any

import requests

KEY_VARIABLE = "STRATA_API_KEY"
NEEDS_KEY = (
    f"the platform asks for an API key; put one into {KEY_VARIABLE} (strata keys create makes them)"
)


def ask(method: str, url: str, *, timeout_s: float, **more: Any) -> requests.Response:
    """Return the response to a request. Raises requests.RequestException where there is none."""
    headers = dict(more.pop("headers", None) or {})
    key = os.environ.get(KEY_VARIABLE)
    if key:
        headers["X-API-Key"] = key
    return requests.request(method, url, headers=headers, timeout=timeout_s, **more)


def is_refused(response: requests.Response) -> bool:
    """Tell whether the key is missing, not known, or may not do this."""
    return response.status_code in {401, 403}
