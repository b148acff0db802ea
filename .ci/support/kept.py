"""Writes the resources that outlive a stack and keep their names into .ci/release/kept.json: kept.py [--check]

`reattach.py` imports them into a new stack. Their properties have to be those of the template, or the next deployment
would change them: a secret that gets another rule for its generation gets another value. With --check, nothing is
written, and a difference is an error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from changes import PSEUDO, stack
from transform import read

OUTPUT = Path(".ci/release/kept.json")
# The properties that name them.
NAMES = {
    "AWS::DynamoDB::Table": "TableName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::SecretsManager::Secret": "Name",
}


def main() -> None:
    template = read("template.yaml")
    template["Resources"] = {
        name: resource for name, resource in template["Resources"].items() if resource["Type"] in NAMES
    }
    # All of them, whatever the parameters say.
    for resource in template["Resources"].values():
        resource.pop("Condition", None)
    resources = {
        name: resource
        for name, resource in stack(template, {}, PSEUDO | {"AWS::StackName": "${StackName}"}).items()
        if "Retain" in resource.get("DeletionPolicy", "")
    }
    text = json.dumps({"Resources": resources}, indent=1)
    for word in ('"Ref"', '"Fn::'):
        if word in text:
            sys.exit(f"{OUTPUT} cannot have functions of CloudFormation")
    if "--check" in sys.argv and OUTPUT.read_text(encoding="utf-8") != f"{text}\n":
        sys.exit(f"{OUTPUT} does not fit the template: run target/tools/sam/bin/python {sys.argv[0]}")
    OUTPUT.write_text(f"{text}\n", encoding="utf-8")


main()
