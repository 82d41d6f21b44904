"""CloudFormation templates as they are written, and whether parameters fit the one that is deployed.

`sam deploy` passes over a parameter that the template does not have, and CloudFormation refuses a value only once the
image has been built and pushed.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import yaml

from handler.errors import InvalidRequestError

TEMPLATE: Final = Path(__file__).parents[1] / "template.yaml"


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms as what they hold."""


def _short_form(loader: yaml.SafeLoader, _name: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    return loader.construct_sequence(node) if isinstance(node, yaml.SequenceNode) else None


_Loader.add_multi_constructor("!", _short_form)


def read_template(path: Path) -> dict[str, Any]:
    """A template, its short forms read as what they hold."""
    read: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - it is a safe one
    return read


def check_parameters(parameters: Mapping[str, str]) -> None:
    """See that the template has these parameters, and allows their values where it lists them.

    Raises:
        InvalidRequestError: names the first that does not fit.
    """
    known = read_template(TEMPLATE)["Parameters"]
    for name, value in parameters.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; is {near[0]} meant?" if near else ""
            raise InvalidRequestError(f"--set: template.yaml has no parameter {name}{hint}", param="set")
        allowed = [str(each) for each in known[name].get("AllowedValues", ())]
        if allowed and value not in allowed:
            one_of = ", ".join(allowed)
            raise InvalidRequestError(f"--set: {name} must be one of {one_of}; given: {value!r}", param="set")
