"""Apply SAM's transform, the very code that runs in CloudFormation, to template.yaml with the parameters on stdin.

Run by the interpreter of .venv-sam, where aws-sam-translator lives. Reads a JSON list of parameter objects and writes
the list of CloudFormation templates, in each nested stack its own as `Template`.
"""

import json
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from samcli.yamlhelper import yaml_parse
from samtranslator.translator.managed_policy_translator import ManagedPolicyLoader
from samtranslator.translator.transform import transform

# What `sam package` puts where the template names a Dockerfile.
IMAGE = "111122223333.dkr.ecr.us-east-1.amazonaws.com/gpt2:api"


def main() -> None:
    """Transform once for each set of parameters."""
    templates = []
    for parameters in json.load(sys.stdin):
        template = read(Path("template.yaml"))
        for resource in template["Resources"].values():
            if resource["Type"] == "AWS::Serverless::Function":
                resource["Properties"]["ImageUri"] = IMAGE
        transformed = transform(template, parameters, ManagedPolicyLoader(None))
        nest(transformed, Path())
        templates.append(transformed)
    json.dump(templates, sys.stdout)


def read(path: Path) -> dict[str, Any]:
    """A template of one's own, parsed once for all, which takes longer than a transform."""
    return deepcopy(_parsed(path))


@cache
def _parsed(path: Path) -> dict[str, Any]:
    template: dict[str, Any] = yaml_parse(path.read_text())
    return template


def nest(template: dict[str, Any], folder: Path) -> None:
    """Put the templates of nested stacks, which are named by paths from their parent's folder, into them."""
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::CloudFormation::Stack":
            path = folder / resource["Properties"]["TemplateURL"]
            resource["Template"] = read(path)
            nest(resource["Template"], path.parent)


if __name__ == "__main__":
    main()
