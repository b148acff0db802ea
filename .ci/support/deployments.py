"""Plays deployments of template.yaml through, on MiniStack at AWS_ENDPOINT_URL: deployments.py FOLDER

First as DEPLOYMENT.md says, with `sam deploy` and samconfig.toml: development, staging and production, one after the
other in one account. Then every parameter changes. At last a first deployment fails, and a stack is deleted and deployed
again over what it left. The functions are stand-ins, because nothing calls them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
from changes import TOGETHER
from emulated import (
    INNER_TYPES,
    Environment,
    check,
    cloudformation,
    finish,
    functions,
    prepared,
    resources,
    status,
    wait,
    with_data,
)
from parameters import another_value
from samcli.yamlhelper import yaml_parse
from transform import read

MAIL_DOMAIN = "example.com"
# One more environment.
TRIAL = """
[trial.global.parameters]
stack_name = "postern-trial"

[trial.deploy.parameters]
capabilities = "CAPABILITY_IAM"
resolve_s3 = true
parameter_overrides = ["CreateMailIdentity=none", "DeletionProtection=false"]
"""


class Changes:
    """A deployed stack whose parameters change."""

    def __init__(self, environment: Environment) -> None:
        self.stack, self.template = environment.stack, environment.template
        self.values = dict(environment.parameters)
        body = cloudformation.get_template(StackName=self.stack, TemplateStage="Original")["TemplateBody"]
        body = body if isinstance(body, dict) else json.loads(json.dumps(yaml_parse(body)))
        self.code = body["Resources"]["Signin"]["Properties"]["CodeUri"]
        self.bucket = self.code.split("/")[2]

    def make(self, change: dict[str, str]) -> None:
        """Changes parameters, and checks what became of the stack."""
        what = ", ".join(change)
        data, before = with_data(self.stack), functions(self.stack)
        self.values |= change
        self.update()
        check(status(self.stack) == "UPDATE_COMPLETE", f"{what}: {status(self.stack)}")
        after = functions(self.stack)
        kept = with_data(self.stack)
        lost = [name for name, entry in data.items() if kept.get(name) != entry]
        check(not lost or lost == ["MailIdentity"], f"{what}: {lost} were replaced or removed")
        for name, (version, serving, newest) in after.items():
            check(serving == newest, f"{what}: {name} still serves other settings")
            is_changed = name in before and before[name][2] != newest
            moved = name in before and before[name][0] != version
            check(
                is_changed == moved,
                f"{what}: {name} has a new version without a change, or a change without one",
            )
        variables = self.template["Resources"]["Signin"]["Properties"]["Environment"]["Variables"]
        for variable, value in variables.items():
            if isinstance(value, dict) and value.get("Ref") in change:
                for name, (_, serving, _) in after.items():
                    text = serving["Environment"]["Variables"][variable]
                    check(text == change[value["Ref"]], f"{variable} of {name} is {text}")

    def update(self) -> None:
        """Updates the stack, with its new parameters."""
        key = f"{self.stack}.json"
        body = json.dumps(prepared(self.template, self.stack, self.values, self.code))
        boto3.client("s3").put_object(Bucket=self.bucket, Key=key, Body=body.encode())
        change_set = cloudformation.create_change_set(
            StackName=self.stack,
            ChangeSetName=f"change-{time.time_ns()}",
            TemplateURL=f"{os.environ['AWS_ENDPOINT_URL']}/{self.bucket}/{key}",
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in self.values.items()],
            Capabilities=["CAPABILITY_IAM"],
        )["Id"]
        while (answer := cloudformation.describe_change_set(ChangeSetName=change_set))["Status"].endswith(
            "G"
        ):
            time.sleep(0.1)
        check(answer["Status"] == "CREATE_COMPLETE", answer.get("StatusReason", ""))
        cloudformation.execute_change_set(ChangeSetName=change_set)
        wait(self.stack)


def groups(template: dict[str, Any]) -> list[dict[str, str]]:
    """Changes of all parameters: alone those that add or remove resources, and the others together."""
    parameters = template["Parameters"]
    conditions = json.dumps(template["Conditions"])
    others = {name: another_value(name, parameter) for name, parameter in parameters.items()}
    changes: list[dict[str, str]] = []
    for name in parameters:
        is_done = any(name in change for change in changes)
        if not is_done and f'{{"Ref": "{name}"}}' in conditions:
            changes.append({each: others[each] for each in [name, *TOGETHER.get(name, [])]})
    done = {name for change in changes for name in change}
    return [*changes, {name: value for name, value in others.items() if name not in done}]


def left_over(stack: str) -> set[str]:
    """The names of the tables, secrets and log groups that begin with the name of a stack."""
    names = boto3.client("dynamodb").list_tables()["TableNames"]
    names += [entry["Name"] for entry in boto3.client("secretsmanager").list_secrets()["SecretList"]]
    names += [entry["logGroupName"] for entry in boto3.client("logs").describe_log_groups()["logGroups"]]
    return {name for name in names if re.search(rf"(^|/){stack}($|[-/])", name)}


def fail_first(environment: Environment) -> None:
    """Fails the first deployment of a stack at its end, and deploys it again."""
    stack = environment.stack
    output, _ = environment.deploy(fails=True).communicate()
    check(status(stack) == "ROLLBACK_COMPLETE", f"{stack}: {status(stack)}\n{output[-4000:]}")
    check(not left_over(stack), f"a failed deployment left {left_over(stack)}")
    delete(stack)
    finish(environment.deploy())


def delete(stack: str) -> None:
    cloudformation.delete_stack(StackName=stack)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})


def deploy_again(environment: Environment) -> None:
    """Deletes a stack and deploys it again with what it left."""
    stack, kept = environment.stack, with_data(environment.stack)
    delete(stack)
    left = left_over(stack)
    wanted = {name.split(":secret:")[-1] for kind, name in kept.values() if kind != "AWS::SES::EmailIdentity"}
    check(left == wanted, f"{stack} left {left} and not {wanted}")
    # MiniStack cannot import secrets.
    secrets = boto3.client("secretsmanager")
    for name in [name for name in left if f"{stack}/" in name and not name.startswith("/")]:
        secrets.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    tables = {name: entry for name, entry in kept.items() if entry[0] != "AWS::SecretsManager::Secret"}
    dynamodb = boto3.client("dynamodb")
    users = tables["TableUsers"][1]
    dynamodb.put_item(TableName=users, Item={"username": {"S": "st.huber"}})
    subprocess.run([".ci/release/reattach.py", stack], check=True, stdout=subprocess.PIPE)
    finish(environment.deploy())
    check(dynamodb.scan(TableName=users)["Count"] == 1, f"{users} was not kept")
    now = with_data(stack)
    check({**now, **tables} == now, f"{stack} has other resources than before: {now}")


def change_all(environment: Environment) -> None:
    """Changes every parameter of a deployed stack."""
    changes = Changes(environment)
    for change in groups(environment.template):
        changes.make(change)
    identities = boto3.client("sesv2").list_email_identities()["EmailIdentities"]
    names = [identity["IdentityName"] for identity in identities]
    check(MAIL_DOMAIN in names, f"{MAIL_DOMAIN} is no identity of SES any longer, only {names}")
    print(f"{len(environment.template['Parameters'])} parameters changed", flush=True)


def fail_and_return(environment: Environment) -> None:
    """Fails a first deployment, repeats it, deletes the stack and deploys it again."""
    fail_first(environment)
    print("a first deployment failed, and left nothing", flush=True)
    deploy_again(environment)
    print("a stack was deleted, and deployed again with its data", flush=True)


def main() -> None:
    folder = Path(sys.argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "code").mkdir(parents=True)
    (folder / "code/bootstrap").write_text("#!/bin/sh\n", encoding="utf-8")
    # As DEPLOYMENT.md asks for.
    text = Path("samconfig.toml").read_text(encoding="utf-8") + TRIAL
    text = text.replace(
        "parameter_overrides = [", f'parameter_overrides = ["MailFrom=no-reply@{MAIL_DOMAIN}", '
    )
    (folder / "samconfig.toml").write_text(text, encoding="utf-8")
    config = tomllib.loads(text)
    template = read("template.yaml")
    *environments, trial = [
        Environment(folder, name, config, template) for name in config if name != "version"
    ]

    # The first also creates the bucket for packages.
    finish(environments[0].deploy())
    for deployment in [environment.deploy() for environment in environments[1:]]:
        finish(deployment)
    owners: dict[tuple[str, str], str] = {}
    for stack in [environment.stack for environment in environments]:
        for entry in resources(stack).values():
            check(entry not in owners, f"{stack} and {owners.get(entry)} share {entry}")
            if entry[0] not in INNER_TYPES:
                owners[entry] = stack
    print(f"{len(environments)} environments, with {len(owners)} resources", flush=True)

    with ThreadPoolExecutor() as pool:
        for job in [pool.submit(change_all, environments[0]), pool.submit(fail_and_return, trial)]:
            job.result()


main()
