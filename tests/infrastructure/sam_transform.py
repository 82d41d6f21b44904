"""Apply SAM's transform, the very code that runs in CloudFormation, to template.yaml with the parameters on stdin.

Run by the interpreter of .venv-sam, where aws-sam-translator lives. Reads a JSON list of parameter objects and writes
the list of CloudFormation templates.
"""

import json
import sys

from samcli.yamlhelper import yaml_parse
from samtranslator.translator.managed_policy_translator import ManagedPolicyLoader
from samtranslator.translator.transform import transform

# What `sam package` puts where the template names a Dockerfile.
IMAGE = "111122223333.dkr.ecr.us-east-1.amazonaws.com/gpt2:api"


def main() -> None:
    """Transform once for each set of parameters."""
    templates = []
    with open("template.yaml") as file:  # noqa: PTH123 - runs under another interpreter; nothing else is needed
        source = file.read()
    for parameters in json.load(sys.stdin):
        template = yaml_parse(source)
        for resource in template["Resources"].values():
            if resource["Type"] == "AWS::Serverless::Function":
                resource["Properties"]["ImageUri"] = IMAGE
        templates.append(transform(template, parameters, ManagedPolicyLoader(None)))
    json.dump(templates, sys.stdout)


if __name__ == "__main__":
    main()
