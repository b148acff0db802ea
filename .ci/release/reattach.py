#!/usr/bin/env python3
"""Makes a new stack of the tables, secrets and logs that a deleted one left: reattach.py STACK

A deleted stack leaves them, and their names are taken, so a new stack of the same name cannot create them. This command
imports them into a stack that has nothing else. The next `sam deploy` adds the rest and takes over the data.

It needs Python 3 and the AWS CLI, with the right to deploy and to list tables, secrets and groups of logs.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

KEPT = Path(__file__).with_name("kept.json")


def aws(*arguments: str) -> Any:
    """The answer of the AWS CLI."""
    command = ["aws", "--output", "json", *arguments]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(answer or "null")


def settled(subject: str, answer: str, *arguments: str) -> str:
    """The status of a change set or a stack that does not change any more."""
    while True:
        status, reason = aws("cloudformation", *arguments, "--query", answer)
        if not status.endswith(("_IN_PROGRESS", "_PENDING")):
            print(f"{subject}: {status} {reason or ''}")
            return status
        time.sleep(2)


def found(stack: str, resources: dict) -> list[dict]:
    """The resources that are there, as CloudFormation names them."""
    tables = aws("dynamodb", "list-tables", "--query", "TableNames")
    groups = aws("logs", "describe-log-groups", "--query", "logGroups[].logGroupName")
    secrets = aws("secretsmanager", "list-secrets", "--query", "SecretList[].[Name,ARN]")
    known = {
        "AWS::DynamoDB::Table": ("TableName", {name: name for name in tables}),
        "AWS::Logs::LogGroup": ("LogGroupName", {name: name for name in groups}),
        "AWS::SecretsManager::Secret": ("Id", dict(secrets)),
    }
    names = {"AWS::SecretsManager::Secret": "Name"}
    entries = []
    for logical_id, resource in resources.items():
        key, present = known[resource["Type"]]
        name = resource["Properties"][names.get(resource["Type"], key)]
        if name in present:
            print(f"{logical_id}: {name}")
            entries.append(
                {
                    "ResourceType": resource["Type"],
                    "LogicalResourceId": logical_id,
                    "ResourceIdentifier": {key: present[name]},
                }
            )
    return entries


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    stack = sys.argv[1]
    template = json.loads(KEPT.read_text(encoding="utf-8").replace("${StackName}", stack))
    entries = found(stack, template["Resources"])
    if not entries:
        sys.exit(f"a stack {stack} has left nothing here")
    imported = {entry["LogicalResourceId"] for entry in entries}
    template["Resources"] = {name: value for name, value in template["Resources"].items() if name in imported}
    options = ["--stack-name", stack, "--change-set-name", "reattach"]
    aws(
        *["cloudformation", "create-change-set", *options, "--change-set-type", "IMPORT"],
        *["--template-body", json.dumps(template), "--resources-to-import", json.dumps(entries)],
    )
    described = settled("change set", "[Status, StatusReason]", "describe-change-set", *options)
    if described != "CREATE_COMPLETE":
        sys.exit(1)
    aws("cloudformation", "execute-change-set", *options)
    stacks = "Stacks[0].[StackStatus, StackStatusReason]"
    if settled(stack, stacks, "describe-stacks", "--stack-name", stack) != "IMPORT_COMPLETE":
        sys.exit(1)
    print(f"{stack} has {len(entries)} resources; deploy it to add the others")


main()
