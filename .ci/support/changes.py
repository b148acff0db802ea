"""Checks, for each parameter of a template, the loss that a change of it could cause: changes.py TEMPLATE

CloudFormation replaces a resource if a property changes that AWS's schema calls create-only, and removes it if its
condition does not hold any longer. A resource that keeps data may not be replaced, because the new one is empty, and
only be removed if it is retained. A resource with a name cannot be replaced, because the new one needs the same name.
"""

from __future__ import annotations

import sys
from typing import Any

from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER
from parameters import another_value
from samcli.lib.cfn_language_extensions.sam_integration import expand_language_extensions
from transform import defaults, read

PSEUDO = {
    "AWS::AccountId": "000000000000",
    "AWS::Partition": "aws",
    "AWS::Region": "eu-central-1",
    "AWS::StackName": "postern-dev",
    "AWS::URLSuffix": "amazonaws.com",
}
KEEPS_DATA = {
    "AWS::DynamoDB::Table",
    "AWS::KMS::Key",
    "AWS::Logs::LogGroup",
    "AWS::S3::Bucket",
    "AWS::SecretsManager::Secret",
    "AWS::SES::EmailIdentity",
}
# The end of public keys with their algorithm is meant: they come from the private keys. So is that of the secret of the
# edge, for which another value serves as well.
MEANT = {("Edge", "OriginSecret"), ("JwtAlgorithm", "JwtKeySet")}
# Another identity of SES is meant as well, but other stacks may need the one before.
REPLACED = {("CreateMailIdentity", "MailIdentity"), ("MailFrom", "MailIdentity")}
# Parameters that are changed together, because a rule of the template forbids one alone.
TOGETHER = {
    "CertificateArn": ["DomainName"],
    "CloseApiEndpoint": ["CertificateArn", "DomainName"],
    "Edge": ["CertificateArn", "DomainName"],
    "DomainName": ["CertificateArn"],
    "JwtAlgorithm": ["JwtIssuer"],
}


def holds(condition: Any, conditions: dict[str, Any]) -> bool:
    """Whether a condition holds, whose parameters are replaced by their values."""
    ((operator, operands),) = condition.items()
    if operator == "Condition":
        return holds(conditions[operands], conditions)
    if operator == "Fn::Equals":
        return str(operands[0]) == str(operands[1])
    results = [holds(operand, conditions) for operand in operands]
    return {"Fn::Not": not results[0], "Fn::And": all(results), "Fn::Or": any(results)}[operator]


def stack(
    template: dict[str, Any], changes: dict[str, str], pseudo: dict[str, str] = PSEUDO
) -> dict[str, dict[str, Any]]:
    """The resources of a stack, with the values of its parameters."""
    given = defaults(template) | {"MailFrom": "no-reply@example.com"} | changes | pseudo
    # As CloudFormation takes them: keys of mappings are texts.
    values = {name: str(value) for name, value in given.items()}
    expanded = expand_language_extensions(template, values, enabled=True).expanded_template
    conditions = expanded["Conditions"]
    return {
        name: resource
        for name, resource in expanded["Resources"].items()
        if "Condition" not in resource or holds(conditions[resource["Condition"]], conditions)
    }


def value_at(properties: Any, path: str) -> Any:
    """The value of a property, such as /properties/KeySchema."""
    for name in path.split("/")[2:]:
        properties = properties.get(name) if isinstance(properties, dict) else None
    return properties


def create_only(resource: dict[str, Any]) -> list[str]:
    """The properties of a resource that cannot change."""
    if resource["Type"].startswith("AWS::Serverless::"):
        return ["/properties/FunctionName", "/properties/StageName"]
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("eu-central-1", resource["Type"]).schema
    return schema.get("createOnlyProperties", []) + schema.get("conditionalCreateOnlyProperties", [])


def replaced_by(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The changed properties for which a resource is replaced."""
    old, new = before["Properties"], after["Properties"]
    return [path for path in create_only(before) if value_at(old, path) != value_at(new, path)]


def names(resource: dict[str, Any]) -> list[str]:
    """The properties that name a resource, so that no second one can stand beside it."""
    paths = [path for path in create_only(resource) if path.count("/") == 2 and path.endswith("Name")]
    return [path for path in paths if isinstance(value_at(resource["Properties"], path), str)]


def losses(parameter: str, before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> list[str]:
    """The losses that a change of a parameter causes."""
    found = []
    for name, old in before.items():
        if (parameter, name) in MEANT:
            continue
        keeps_data = old["Type"] in KEEPS_DATA
        if name not in after:
            if keeps_data and "Retain" not in old.get("DeletionPolicy", ""):
                found.append(f"deletes {name}")
            continue
        if paths := replaced_by(old, after[name]):
            is_meant = (parameter, name) in REPLACED and old.get("UpdateReplacePolicy") == "Retain"
            if keeps_data and not is_meant:
                found.append(f"replaces {name} for {paths}")
            if taken := [path for path in names(old) if path not in paths]:
                found.append(f"replaces {name} for {paths}, but {taken} is taken")
    return found


def main() -> None:
    template = read(sys.argv[1])
    wrong = []
    for name in template["Parameters"]:
        change = {
            each: another_value(each, template["Parameters"][each])
            for each in [name, *TOGETHER.get(name, [])]
        }
        # A change, and the change back.
        there = stack(template, change)
        here = stack(template, {})
        wrong += [f"{name}: {loss}" for loss in losses(name, here, there)]
        wrong += [f"{name}, back: {loss}" for loss in losses(name, there, here)]
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{len(template['Parameters'])} parameters can change without a loss")


if __name__ == "__main__":
    main()
