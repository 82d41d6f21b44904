"""What the log says, line by line."""

import io
import json
from typing import Any


def logged(log: io.StringIO, message: str) -> list[dict[str, Any]]:
    """The lines of this message."""
    return [line for line in map(json.loads, log.getvalue().splitlines()) if line["message"] == message]
