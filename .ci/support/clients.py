"""Checks that every built function links exactly the AWS clients that its role lets it use, and the list of common
passwords exactly if it sets passwords: clients.py TEMPLATE BUILD LIST

What a function does not need costs it size and start time. Runs with the Python of aws-sam-cli.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cfnlint.decode import decode

# The names of the services in IAM, and those of their crates.
CRATES = {"dynamodb": "dynamodb", "secretsmanager": "secretsmanager", "ses": "sesv2"}
SET_PASSWORDS = {
    "change_my_password",
    "change_password",
    "change_password_after_signin",
    "forgot_password_reset_password",
    "manage_users",
}
LINKED = re.compile(rb"aws_sdk_([a-z0-9]+)")


def chosen(value: Any) -> Any:
    """The value if all conditions hold: a function links what any deployment needs."""
    return value["Fn::If"][1] if isinstance(value, dict) and "Fn::If" in value else value


def statements(role: dict[str, Any], resources: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The statements of a role's own policies and of the managed policies of the template that it refers to."""
    properties = role["Properties"]
    documents = [policy["PolicyDocument"] for policy in chosen(properties.get("Policies", []))]
    for policy in properties.get("ManagedPolicyArns", []):
        documents.append(resources[policy["Ref"]]["Properties"]["PolicyDocument"])
    for document in documents:
        for statement in document["Statement"]:
            yield chosen(statement)


def allowed_clients(role: dict[str, Any], resources: dict[str, Any]) -> set[str]:
    """The crates of the services that the role allows calls of. Logs and traces are Lambda's to send."""
    clients = set()
    for statement in statements(role, resources):
        actions = statement["Action"]
        for action in [actions] if isinstance(actions, str) else actions:
            clients.add(CRATES.get(action.split(":")[0]))
    return clients - {None}


def main() -> None:
    template, problems = decode(sys.argv[1])
    if problems:
        sys.exit(f"{problems}")
    build = Path(sys.argv[2])
    blocklist = Path(sys.argv[3]).read_bytes()
    resources = template["Resources"]
    wrong = []
    for name, resource in resources.items():
        if resource["Type"] != "AWS::Serverless::Function":
            continue
        role = resources[resource["Properties"]["Role"]["Fn::GetAtt"][0]]
        allowed = allowed_clients(role, resources)
        binary = (build / name / "bootstrap").read_bytes()
        linked = {client.decode() for client in LINKED.findall(binary)}
        print(f"{name:28} {len(binary) // 1024:6} KiB  {' '.join(sorted(linked))}")
        if linked != allowed:
            wrong.append(f"{name} links {sorted(linked)}, but its role allows {sorted(allowed)}")
        sets_passwords = Path(resource["Properties"]["CodeUri"]).name in SET_PASSWORDS
        if (blocklist in binary) != sets_passwords:
            wrong.append(f"{name} links the list of common passwords, or should")
    if wrong:
        sys.exit("\n".join(wrong))


main()
