"""The sentence for people in what Ray Serve says of an application that does not run.

Used by application_states in the gateway, and by deploy.application_status for the command line.
"""

import re

# Ray wraps a replica's error in tracebacks; the last line of one names the exception.
_EXCEPTION = re.compile(r"\s*(?:[\w.]+\.)?\w*(?:Error|Exception|Exit|Interrupt)\b")


def failure_reason(message: str) -> str:
    """Return the sentence without the tracebacks around it, in one line."""
    lines = message.splitlines()
    own = [line for line in lines if "serve.errors." in line]
    if own:
        return _one_line(own[-1].split(": ", 1)[-1])
    exceptions = [line for line in lines if _EXCEPTION.match(line)]
    return _one_line((exceptions or [message])[-1]) or "Ray Serve does not say why"


def _one_line(text: str) -> str:
    return " ".join(text.split())
