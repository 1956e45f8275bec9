"""How detect-secrets knows an API key of Strata; it loads this file by its path."""

import re
from typing import ClassVar

from detect_secrets.plugins.base import RegexBasedDetector


class StrataKeyDetector(RegexBasedDetector):
    """Finds `strata_` and the 49 letters and digits of a key: 256 random bits and a checksum."""

    secret_type = "Strata API key"
    denylist: ClassVar = [re.compile(r"(?<![A-Za-z0-9_-])strata_[0-9A-Za-z]{49}")]
