"""Prints a template as CloudFormation gets it once SAM has transformed it, with a made-up place for the code.

Circular dependencies, such as an API's alarm that rolls back the API's own functions, are seen in this form only.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import boto3
from cfnlint.decode import decode
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

logging.disable(logging.WARNING)


def read(path: str) -> dict[str, Any]:
    template, _ = decode(path)
    template = json.loads(json.dumps(template))
    for resource in template["Resources"].values():
        if "CodeUri" in resource.get("Properties", {}):
            resource["Properties"]["CodeUri"] = "s3://bucket/key"
    return template


def defaults(template: dict[str, Any]) -> dict[str, Any]:
    return {name: parameter.get("Default", "") for name, parameter in template["Parameters"].items()}


def transformed(template: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    session = boto3.Session(region_name="eu-central-1")
    return Translator({}, Parser(), boto_session=session).translate(template, parameters)


if __name__ == "__main__":
    given = read(sys.argv[1])
    print(json.dumps(transformed(given, defaults(given)), indent=1))
