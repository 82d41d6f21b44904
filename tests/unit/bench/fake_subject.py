"""A subject without a model, for the tests of the line protocol: `fake_subject BEHAVIOUR`."""

import sys
import time

from bench.peers.child import Generate, Tokens, serve


def load() -> Generate:
    behaviour = sys.argv[1]
    print("a library says hello where answers go")  # noqa: T201
    if behaviour == "cannot load":
        raise OSError("there is no such model\nand more lines")

    def generate(prompts: Tokens, new: int) -> Tokens:
        if behaviour == "fails":
            raise ValueError("one token too many")
        if behaviour == "hangs":
            time.sleep(60)
        written = new - 1 if behaviour == "stops early" else new
        return [[sum(prompt)] * written for prompt in prompts]

    return generate


if __name__ == "__main__":
    serve(load)
