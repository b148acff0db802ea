"""The commands of the documents, and how they are run: tables to extend when a document has a new command."""

import re
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[3]
DOCUMENTS = (
    "README.md",
    "API.md",
    "functions/manage_users/README.md",
    "DEPLOYMENT.md",
    "TOKENS.md",
    "RUNBOOK.md",
)

# The emulator of each operation: `local` itself, which runs the functions, or MiniStack, whose DynamoDB they use.
EMULATORS = {
    "local": {
        "lambda invoke",
        "secretsmanager describe-secret",
        "secretsmanager get-random-password",
        "secretsmanager put-secret-value",
        "secretsmanager rotate-secret",
        "secretsmanager update-secret-version-stage",
    },
    "ministack": {
        "apigatewayv2 create-api",
        "apigatewayv2 create-stage",
        "apigatewayv2 delete-route-settings",
        "apigatewayv2 get-apis",
        "apigatewayv2 get-stages",
        "apigatewayv2 update-stage",
        "cloudformation create-stack",
        "cloudformation deploy",
        "cloudformation describe-stack-resource",
        "cloudformation describe-stacks",
        "cloudformation list-stack-resources",
        "cloudformation update-termination-protection",
        "cloudformation wait",
        "cloudwatch describe-alarms",
        "cloudwatch put-metric-alarm",
        "cloudwatch set-alarm-state",
        "dynamodb delete-item",
        "dynamodb delete-table",
        "dynamodb get-item",
        "dynamodb put-item",
        "dynamodb restore-table-to-point-in-time",
        "dynamodb scan",
        "dynamodb update-continuous-backups",
        "dynamodb update-table",
        "dynamodb wait",
        "lambda add-permission",
        "lambda create-alias",
        "lambda create-function",
        "lambda delete-function-concurrency",
        "lambda get-function-configuration",
        "lambda list-versions-by-function",
        "lambda put-function-concurrency",
        "lambda update-alias",
        "logs create-log-group",
        "logs delete-log-group",
        "logs describe-resource-policies",
        "logs filter-log-events",
        "s3 cp",
        "secretsmanager create-secret",
        "secretsmanager delete-secret",
        "secretsmanager describe-secret",
        "secretsmanager get-secret-value",
        "secretsmanager put-secret-value",
        "secretsmanager update-secret-version-stage",
        "sesv2 create-email-identity",
        "sesv2 get-account",
        "sesv2 get-email-identity",
    },
}
# `local` has no edge, so its secret is in MiniStack.
ONLY_IN_MINISTACK = "postern/origin-secret"
# The operations that none of them knows, with the reason why that is so.
NO_EMULATOR = {
    "deploy get-deployment": "neither of them has CodeDeploy",
    "deploy list-deployment-groups": "neither of them has CodeDeploy",
    "deploy list-deployments": "neither of them has CodeDeploy",
    "deploy stop-deployment": "neither of them has CodeDeploy",
    "secretsmanager restore-secret": "`local` deletes no secrets",
    "sesv2 delete-suppressed-destination": "MiniStack's SES has no suppression list",
}
# The answers of those whose answers other commands take.
ANSWERS = {"deploy list-deployment-groups": "postern-Signin", "deploy list-deployments": "d-1"}
# Blocks that are not run, by their first line, with the reason.
NOT_RUN = {
    "cargo run --bin local": "it is running",
    "npm ci --prefix .ci/support/typed_client": "the step openapi runs it",
    "sam build && sam deploy": "it deploys to AWS",
    ".ci/release/reattach.py postern": "the step deploy runs it",
    "sam remote invoke SmokeTest --stack-name postern-dev | tee /dev/stderr | jq --exit-status .ok": "it needs a deployment",
    ".ci/run build": "it is running, and the step release runs the other command",
    "cargo run --bin local -- --aws-host 172.17.0.1": "it needs the network of Docker",
    "export AWS_EC2_METADATA_DISABLED=true": "the step sam_local runs it",
    "functions/manage_users/users.py import --firebase-hash-config hash_config users.jsonl": "its tests run it",
}
# Commands between two documents.
BEFORE = {"API.md": "printf Password1234! | functions/manage_users/users.py --local set-password st.huber\n"}
# The values of an operator, and those of this run. The ports are replaced as well.
SUBSTITUTIONS = (
    # Another user than that of the other documents.
    ("create st.huber ", "create st.$RANDOM$RANDOM "),
    ("--stack postern-dev ", "--stack postern "),
    ("export users.jsonl", "export exported.jsonl"),
    ("ACCOUNT:role", "000000000000:role"),
    ("ACCOUNT:certificate/ID", "000000000000:certificate/id"),
    ('"$AUTHORIZER_ARN"', "postern-authorizer"),
    ("$REGION:$ACCOUNT:$API", "eu-central-1:000000000000:$api"),
    # There is no terminal for questions.
    ("users revoke --all", "users revoke --all --yes"),
    ("users set-password --random --all", "users set-password --random --all --yes"),
    ("VERSION_ID", '"$(stuck_rotation)"'),
    # The functions are from now.
    ("before=2026-11-21T09:00", "before=9999"),
)

# Stops at the first command that fails, and says where it is.
PROLOGUE = """\
set -Eeuo pipefail
at=setup.bash
trap 'echo "$at: failed: $BASH_COMMAND" >&2' ERR
"""
BLOCK_OR_COMMAND = re.compile(
    r"^ *```sh\n(.*?)^ *```$|`(aws [a-z0-9]+ [a-z][^`]*)`", re.MULTILINE | re.DOTALL
)
COMMENT = re.compile(r"(^|\s)#.*", re.MULTILINE)
OPERATION = re.compile(r"(?<![\w/-])aws ([a-z0-9]+ [a-z][a-z0-9-]+)")


class Program(NamedTuple):
    """The commands as one program of bash, and the operations of AWS that it has to reach."""

    text: str
    operations: set[str]


def operations_of(commands: str) -> set[str]:
    return {*OPERATION.findall(COMMENT.sub("", commands))}


def in_sentence(command: str) -> str:
    """A command within a sentence, which is only parsed if it is cut short or is a name alone."""
    is_whole = "…" not in command and " --" in command
    return f"{'' if is_whole else 'PARSE_ONLY=1 '}{' '.join(command.split()).replace('…', 'placeholder')}\n"


def program(api: str, local: str) -> Program:
    """All commands of the documents, for a service at these URLs. Ends the process if the tables do not fit."""
    texts = [(Path(__file__).parent / "setup.bash").read_text(encoding="utf-8")]
    reached = operations_of(texts[0])
    known = {*NO_EMULATOR}.union(*EMULATORS.values())
    unused = {*known, *NOT_RUN, *(written for written, _ in SUBSTITUTIONS)} - reached
    problems = []
    for document in DOCUMENTS:
        texts.append(BEFORE.get(document, ""))
        content = (ROOT / document).read_text(encoding="utf-8")
        # Those in sentences first: the last blocks delete what the deployment has.
        for found in sorted(BLOCK_OR_COMMAND.finditer(content), key=lambda found: found[1] is not None):
            line = content.count("\n", 0, found.start()) + 1
            block, command = found.groups()
            if (first := (block or command).split("\n")[0].strip()) in NOT_RUN:
                unused.discard(first)
                continue
            commands = block or in_sentence(command)
            operations = operations_of(commands)
            problems += [
                f"{document}:{line}: {operation}: not in a table" for operation in operations - known
            ]
            reached |= operations
            unused -= operations
            for written, value in SUBSTITUTIONS:
                if written in commands:
                    unused.discard(written)
                    commands = commands.replace(written, value)
            commands = commands.replace("http://127.0.0.1:3000", api).replace("http://127.0.0.1:4566", local)
            texts.append(f"at={document}:{line}\n{commands}")
    if problems := problems + [f"in no document: {text}" for text in unused]:
        sys.exit("\n".join([f"{Path(__file__).name} does not fit the documents:", *sorted(problems)]))
    return Program("".join([PROLOGUE, *texts]), reached)
