"""What `sam local generate-event` prints, many at once, for starting sam takes longest.

Run by the interpreter of .venv-sam, where sam lives. Reads a JSON list of [service, type, options], the options being
those that are not left at their defaults, and writes the list of events.
"""

import json
import sys

from samcli.lib.generated_sample_events.events import Events


def main() -> None:
    """Generate each event."""
    generator = Events()
    events = []
    for service, kind, values in json.load(sys.stdin):
        options = generator.event_mapping[service][kind]["tags"]
        defaults = {name: option["default"] for name, option in options.items()}
        events.append(json.loads(generator.generate_event(service, kind, defaults | values)))
    json.dump(events, sys.stdout)


if __name__ == "__main__":
    main()
