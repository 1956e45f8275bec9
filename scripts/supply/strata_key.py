"""How detect-secrets knows an API key of Strata; it loads this file by its path."""

import re
from typing import ClassVar

from detect_secrets.plugins.base import RegexBasedDetector


class StrataKeyDetector(RegexBasedDetector):
    """Finds `strata_` and what follows in a key: 32 random bytes as base64url, and a checksum."""

    secret_type = "Strata API key"
    # A capital letter tells a key from a long name: of 2^32 keys one has none.
    denylist: ClassVar = [
        re.compile(r"(?<![A-Za-z0-9_-])strata_(?=[a-z0-9_-]*[A-Z])[A-Za-z0-9_-]{43,}")
    ]
