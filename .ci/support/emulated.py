"""Deployments to MiniStack at AWS_ENDPOINT_URL, and what they made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
from changes import KEEPS_DATA
from samcli.lib.cfn_language_extensions.sam_integration import expand_language_extensions
from transform import defaults

REGION = os.environ["AWS_REGION"]

# A resource that waits for a signal that does not come.
FAILING = {
    "Type": "AWS::CloudFormation::WaitCondition",
    "Properties": {"Handle": {"Ref": "Handle"}, "Timeout": 1},
}
# Types of resources that MiniStack refuses a template for.
UNKNOWN_TYPES = {
    "AWS::CloudTrail::Trail",
    "AWS::CloudWatch::CompositeAlarm",
    "AWS::Logs::QueryDefinition",
    "AWS::SecretsManager::RotationSchedule",
}
# Types of resources whose names are unique in another resource only.
INNER_TYPES = {"AWS::ApiGatewayV2::Stage"}
# The properties of a function that a version keeps.
VERSIONED = [
    "Architectures",
    "Environment",
    "Handler",
    "LoggingConfig",
    "MemorySize",
    "Role",
    "Runtime",
    "Timeout",
    "TracingConfig",
]

cloudformation = boto3.client("cloudformation")
lambda_ = boto3.client("lambda")


def check(is_right: bool, message: str) -> None:
    if not is_right:
        sys.exit(f"deployments: {message}")


def prepared(
    template: dict[str, Any], stack: str, parameters: dict[str, str], code: str = "code"
) -> dict[str, Any]:
    """The template without what MiniStack does not know: all that differs from the original is here."""
    pseudo = {
        "AWS::AccountId": "000000000000",
        "AWS::Partition": "aws",
        "AWS::Region": REGION,
        "AWS::StackName": stack,
        "AWS::URLSuffix": "amazonaws.com",
    }
    # Of AWS::LanguageExtensions, MiniStack lacks the part that resolves parameters. SAM has it.
    values = {name: str(value) for name, value in (defaults(template) | parameters | pseudo).items()}
    result = expand_language_extensions(template, values, enabled=True).expanded_template
    result["Transform"] = "AWS::Serverless-2016-10-31"
    resources = result["Resources"]
    for name in [name for name, resource in resources.items() if resource["Type"] in UNKNOWN_TYPES]:
        del resources[name]
    # It has no CodeDeploy: a version takes over at once.
    result["Globals"]["Function"].pop("DeploymentPreference")
    for resource in resources.values():
        properties = resource["Properties"]
        if resource["Type"] == "AWS::Serverless::Function":
            properties.pop("DeploymentPreference", None)
            properties["CodeUri"] = code
        # Its alarms have one metric.
        if resource["Type"] == "AWS::CloudWatch::Alarm" and properties.pop("Metrics", None):
            properties |= {"Namespace": "Any", "MetricName": "Any", "Statistic": "Sum", "Period": 60}
    # Its identities have no tokens of DKIM.
    for name in [name for name in result["Outputs"] if name.startswith("Dkim")]:
        del result["Outputs"][name]
    return result


class Environment:
    """An environment of samconfig.toml, in a folder from which `sam` deploys it."""

    def __init__(self, folder: Path, name: str, config: dict[str, Any], template: dict[str, Any]) -> None:
        self.folder, self.name, self.template = folder, name, template
        self.stack = config[name]["global"]["parameters"]["stack_name"]
        self.parameters: dict[str, str] = {}
        for command in ("global", "deploy"):
            parameters = config[name].get(command, {}).get("parameters", {})
            self.parameters |= dict(each.split("=", 1) for each in parameters.get("parameter_overrides", []))

    def deploy(self, *, fails: bool = False) -> subprocess.Popen[str]:
        """Starts `sam deploy`, of a template whose last resource fails if asked for."""
        body = prepared(self.template, self.stack, self.parameters)
        if fails:
            others = [name for name, resource in body["Resources"].items() if "Condition" not in resource]
            body["Resources"] |= {
                "Failing": {**FAILING, "DependsOn": others},
                "Handle": {"Type": "AWS::CloudFormation::WaitConditionHandle"},
            }
        template = self.folder / f"{self.name}.json"
        template.write_text(json.dumps(body), encoding="utf-8")
        command = ["sam", "deploy", "--config-env", self.name, "--template-file", template.name]
        command += ["--no-confirm-changeset", "--no-progressbar"]
        return subprocess.Popen(
            command, cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )


def finish(deployment: subprocess.Popen[str]) -> None:
    """Ends the program unless a deployment succeeds."""
    output, _ = deployment.communicate()
    check(deployment.returncode == 0, output[-4000:])


def status(stack: str) -> str:
    return cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]


def wait(stack: str) -> str:
    """The status of a stack that does not change any more."""
    while (now := status(stack)).endswith("_IN_PROGRESS"):
        time.sleep(0.1)
    return now


def resources(stack: str) -> dict[str, tuple[str, str]]:
    """The type and the name of each resource of a stack, by its logical id."""
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack)
    return {
        entry["LogicalResourceId"]: (entry["ResourceType"], entry["PhysicalResourceId"])
        for page in pages
        for entry in page["StackResourceSummaries"]
        if entry["ResourceStatus"] != "DELETE_COMPLETE"
    }


def with_data(stack: str) -> dict[str, tuple[str, str]]:
    return {name: entry for name, entry in resources(stack).items() if entry[0] in KEEPS_DATA}


def functions(stack: str) -> dict[str, tuple[str, dict[str, Any], dict[str, Any]]]:
    """The version of each function that serves, its configuration, and the newest configuration."""
    found = {}
    for name, (kind, physical) in resources(stack).items():
        if kind == "AWS::Lambda::Function":
            newest = lambda_.get_function_configuration(FunctionName=physical)
            serving = lambda_.get_function_configuration(FunctionName=physical, Qualifier="live")
            found[name] = (
                serving["Version"],
                {key: serving.get(key) for key in VERSIONED},
                {key: newest.get(key) for key in VERSIONED},
            )
    return found
