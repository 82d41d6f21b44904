"""Parameters of a deployment are held against the template before anything is built."""

from lifecycle.template import TEMPLATE, check_parameters, read_template


def test_what_the_template_has_by_default_is_allowed() -> None:
    parameters = read_template(TEMPLATE)["Parameters"]
    defaults = {name: str(each["Default"]) for name, each in parameters.items() if "Default" in each}
    assert {"AuthMode": "api-key", "MemorySize": "3008"}.items() <= defaults.items()
    check_parameters(defaults)
