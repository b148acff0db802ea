"""Writes the rights that CloudFormation needs for the templates into .ci/release/deployer.yaml: rights.py [--check]

AWS's schemas name, for each type of resource, the actions that CloudFormation calls to create, read, update and delete
it; cfn-lint ships them, and IAM's list of the resources that each action can be narrowed to. An action that is for
properties that the templates do not use is left out only if it is listed here. All that is unknown here is an error, so
a new type of resource asks for a decision. With --check, nothing is written, and a difference is an error.
"""

import json
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

from cfnlint.data import AdditionalSpecs
from cfnlint.decode import decode
from cfnlint.helpers import load_resource
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

TEMPLATES = ["template.yaml"]
OUTPUT = Path(".ci/release/deployer.yaml")
MARK = "  # From here on, .ci/support/rights.py writes this file.\n"
# IAM's limit for a managed policy, in characters that are not white space.
MOST_CHARACTERS = 6144


def both(name: str) -> tuple[str, str]:
    """The two forms in which actions name a group of logs."""
    return name, f"{name}:*"


IAM = load_resource(AdditionalSpecs, "Policies.json")
NAME = "${StackName}"
HERE = "${AWS::Region}:${AWS::AccountId}"
# The names of the stack's resources, by service and kind of resource.
RESOURCES = {
    # HTTP APIs have no names in ARNs, and the methods are actions.
    "apigateway": {
        "*": [
            f"${{AWS::Region}}::/{path}"
            for path in ("apis", "apis/*", "domainnames", "domainnames/*", "tags/*")
        ]
    },
    "cloudtrail": {"trail": [f"{HERE}:trail/{NAME}-*"]},
    "cloudwatch": {
        "alarm": [f"{HERE}:alarm:{NAME}-*"],
        "dashboard": [f":${{AWS::AccountId}}:dashboard/{NAME}"],
    },
    "codedeploy": {
        "application": [f"{HERE}:application:{NAME}-*"],
        "deploymentconfig": [f"{HERE}:deploymentconfig:*"],
        "deploymentgroup": [f"{HERE}:deploymentgroup:{NAME}-*"],
    },
    "dynamodb": {"table": [f"{HERE}:table/{NAME}-*"]},
    "events": {"rule-on-default-event-bus": [f"{HERE}:rule/{NAME}-*"]},
    "iam": {
        "policy": [f":${{AWS::AccountId}}:policy/{NAME}-*"],
        "role": [f":${{AWS::AccountId}}:role/{NAME}-*"],
    },
    "kms": {"key": [f"{HERE}:key/*"]},
    "lambda": {
        name: [f"{HERE}:function:{NAME}-*"] for name in ("function", "function alias", "function version")
    },
    "logs": {
        "log-group": [
            f"{HERE}:log-group:/aws/{group}"
            for group in (
                f"events/{NAME}-*",
                f"lambda/{NAME}-*",
                *both(f"lambda/{NAME}"),
                *both(f"vendedlogs/apigateway/{NAME}"),
            )
        ]
    },
    "s3": {
        "bucket": [f"::{NAME}-*"],
        # The packages, which sam uploads.
        "object": ["::aws-sam-cli-managed-default-*/*"],
    },
    "secretsmanager": {"Secret": [f"{HERE}:secret:{NAME}/*"]},
    "ses": {"configuration-set": [f"{HERE}:configuration-set/{NAME}"], "identity": [f"{HERE}:identity/*"]},
    "sns": {"topic": [f"{HERE}:{NAME}-*"]},
    "ssm": {"parameter": [f"{HERE}:parameter/{NAME}/*"]},
    "states": {"statemachine": [f"{HERE}:stateMachine:{NAME}-*"]},
}

POLICIES = {
    "Functions": ["apigateway", "codedeploy", "lambda"],
    "Data": ["dynamodb", "kms", "s3", "secretsmanager"],
    "Roles": ["iam"],
    "Observation": ["cloudtrail", "cloudwatch", "events", "logs", "sns", "ssm", "states"],
    "Mail": ["ses"],
}

# Actions that can be narrowed, but are not: alarms of several alarms are described only to those who may describe all.
WIDE = ["cloudwatch:DescribeAlarms"]
# The properties that name resources, to compare with the names above.
NAMED = {
    "AWS::CloudTrail::Trail": ("cloudtrail", "trail", "TrailName"),
    "AWS::CloudWatch::Alarm": ("cloudwatch", "alarm", "AlarmName"),
    "AWS::CloudWatch::CompositeAlarm": ("cloudwatch", "alarm", "AlarmName"),
    "AWS::CloudWatch::Dashboard": ("cloudwatch", "dashboard", "DashboardName"),
    "AWS::DynamoDB::Table": ("dynamodb", "table", "TableName"),
    "AWS::Events::Rule": ("events", "rule-on-default-event-bus", "Name"),
    "AWS::IAM::ManagedPolicy": ("iam", "policy", "ManagedPolicyName"),
    "AWS::IAM::Role": ("iam", "role", "RoleName"),
    "AWS::Lambda::Function": ("lambda", "function", "FunctionName"),
    "AWS::Logs::LogGroup": ("logs", "log-group", "LogGroupName"),
    "AWS::S3::Bucket": ("s3", "bucket", "BucketName"),
    "AWS::SecretsManager::Secret": ("secretsmanager", "Secret", "Name"),
    "AWS::SES::ConfigurationSet": ("ses", "configuration-set", "Name"),
    "AWS::SNS::Topic": ("sns", "topic", "TopicName"),
    "AWS::SSM::Parameter": ("ssm", "parameter", "Name"),
    "AWS::StepFunctions::StateMachine": ("states", "statemachine", "StateMachineName"),
}

# The exceptions for checkov.
METADATA = {
    "Data": "    # CloudFormation reads a secret before it changes it.\n"
    "    Metadata: {checkov: {skip: [{id: CKV_AWS_108, comment: 'Only CloudFormation can use it'}]}}\n",
}

# Rights that the schemas ask for and the templates do not use.
UNUSED = [
    # Rows of tables, for imports and replicas, and streams.
    *["dynamodb:*Import*", "dynamodb:*Item", "dynamodb:*Replica", "dynamodb:Query", "dynamodb:Scan"],
    *["dynamodb:DisableKinesis*", "dynamodb:EnableKinesis*", "dynamodb:UpdateKinesis*", "kinesis:*"],
    *["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
    # Objects, so that the audit trail stays as it is; websites, replication, tables of metadata, and the like.
    *[
        "s3:DeleteObject",
        "s3:PutObjectAcl",
        "s3:*Website",
        "s3:*Replication*",
        "s3:*Metadata*TableConfiguration",
        "s3tables:*",
    ],
    *[
        "s3:PutAccelerate*",
        "s3:PutAnalytics*",
        "s3:PutBucketAbac",
        "s3:PutBucketCORS",
        "s3:PutIntelligent*",
        "s3:PutInventory*",
        "s3:PutMetrics*",
    ],
    # Networks and file systems of functions, signed code, layers, other ways to run functions.
    *[
        "ec2:*",
        "elasticfilesystem:*",
        "s3files:*",
        "lambda:*CodeSigningConfig",
        "lambda:GetLayerVersion",
        "lambda:PassCapacityProvider",
    ],
    # Policies of people, machines outside of AWS, the trail of an organization, and other ways to deliver logs.
    *[
        "iam:*GroupPolicy",
        "iam:*UserPolicy",
        "codedeploy:RegisterOnPremisesInstance",
        "organizations:*",
        "firehose:*",
    ],
]
# Rights that the schemas do not ask for: access logs of APIs, which the API delivers in the name of its deployer.
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/AWS-logs-infrastructure-V1.html
LOG_DELIVERY = [
    f"logs:{action}"
    for action in ("DeleteLogDelivery", "GetLogDelivery", "ListLogDeliveries", "UpdateLogDelivery")
]


def transformed(template: str) -> dict:
    """A template as CloudFormation gets it."""
    if "AWS::Serverless" not in Path(template).read_text(encoding="utf-8"):
        return json.loads(json.dumps(decode(template)[0]))
    command = [sys.executable, ".ci/support/transform.py", template]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def asked_for(resources: list[dict]) -> list[str]:
    """The actions of the handlers of these resources, as far as IAM knows them and they are used."""
    actions = set(LOG_DELIVERY)
    for kind in {resource["Type"] for resource in resources}:
        handlers = PROVIDER_SCHEMA_MANAGER.get_resource_schema("eu-central-1", kind).schema["handlers"]
        # Deployments do not list the resources of an account.
        actions |= {
            action
            for name, handler in handlers.items()
            if name != "list"
            for action in handler["permissions"]
        }
    # The schemas write some in two ways, of which the last here is the one with more capital letters.
    written = {
        action.lower(): action.split(":")[0].lower() + ":" + action.split(":")[1]
        for action in sorted(actions, reverse=True)
    }
    return sorted(
        name
        for action, name in written.items()
        if action.split(":")[1] in IAM.get(action.split(":")[0], {}).get("Actions", {})
        and not any(fnmatchcase(action, pattern.lower()) for pattern in UNUSED)
    )


def passed_to(resources: list[dict]) -> list[str]:
    """The services that take on a role of the templates."""
    roles = [resource["Properties"] for resource in resources if resource["Type"] == "AWS::IAM::Role"]
    documents = json.dumps([role["AssumeRolePolicyDocument"] for role in roles])
    return sorted(set(re.findall(r"[a-z0-9-]+\.amazonaws\.com", documents)))


def attached(resources: list[dict]) -> list[str]:
    """The policies of AWS that are attached to a role of the templates."""
    policies = re.findall(r"arn:[^:]+(?:::Partition\})?:(iam::aws:policy/[\w/-]+)", json.dumps(resources))
    return sorted(set(policies))


def check_names(resources: list[dict]) -> None:
    """Ends the program if a resource has a name that no right reaches."""
    for resource in resources:
        if resource["Type"] not in NAMED:
            continue
        service, kind, property = NAMED[resource["Type"]]
        name = resource["Properties"].get(property)
        # CloudFormation begins the names that it makes with the stack's.
        if name is None:
            continue
        text = (name.get("Fn::Sub") or f"${{{name['Ref']}}}") if isinstance(name, dict) else name
        # The names of parameters begin with a slash, which their ARNs do not repeat.
        text = text.replace("AWS::StackName", "StackName").removeprefix("/" if kind == "parameter" else "")
        tails = [re.sub(r"^.*?(?=/aws/|\$\{StackName)", "", arn) for arn in RESOURCES[service][kind]]
        if not any(fnmatchcase(text, tail) for tail in tails):
            sys.exit(f"no right reaches the name {text}: it is not in RESOURCES")


def statement(action: str, resources: list[dict]) -> tuple[tuple[str, ...], str]:
    """The resources to which an action is narrowed, and its condition."""
    service, name = action.split(":")
    kinds = IAM[service]["Actions"][name.lower()].get("Resources", [])
    arn = f"arn:${{AWS::Partition}}:{service}:"
    known = RESOURCES.get(service, {})
    if not kinds or action in WIDE:
        return ("*",), ""
    if action == "iam:CreateServiceLinkedRole":
        # API Gateway's, for domains.
        return (f"{arn}:${{AWS::AccountId}}:role/aws-service-role/ops.apigateway.amazonaws.com/*",), ""
    narrowed = [arn + tail for kind in kinds for tail in known.get("*", known.get(kind, []))]
    if not narrowed:
        sys.exit(f"{action} is for {kinds}: put them into RESOURCES, or the action into UNUSED")
    condition = ""
    if action == "iam:PassRole":
        condition = f"StringEquals: {{iam:PassedToService: [{', '.join(passed_to(resources))}]}}"
    elif action in ("iam:AttachRolePolicy", "iam:DetachRolePolicy"):
        policies = [
            f"{arn}:${{AWS::AccountId}}:policy/{NAME}-*",
            *[f"arn:${{AWS::Partition}}:{policy}" for policy in attached(resources)],
        ]
        reached = ", ".join(f"!Sub '{policy}'" for policy in policies)
        condition = f"ArnLike: {{iam:PolicyARN: [{reached}]}}"
    elif service == "kms":
        condition = "StringLike: {kms:ViaService: !Sub '*.${AWS::Region}.amazonaws.com'}"
    return tuple(dict.fromkeys(narrowed)), condition


def policies(resources: list[dict]) -> str:
    """The managed policies, as the end of the template."""
    statements: dict[str, dict[tuple, list[str]]] = {name: {} for name in POLICIES}
    for action in asked_for(resources):
        policy = next((name for name, services in POLICIES.items() if action.split(":")[0] in services), None)
        if policy is None:
            sys.exit(f"{action} is in no policy: put its service into POLICIES, or the action into UNUSED")
        statements[policy].setdefault(statement(action, resources), []).append(action)

    text = ""
    for policy, entries in statements.items():
        lines = []
        for (narrowed, condition), actions in entries.items():
            lines += ["          - Effect: Allow", "            Action:"]
            lines += [f"              - {action}" for action in actions]
            if narrowed == ("*",):
                lines.append("            Resource: '*'")
            else:
                lines.append("            Resource:")
                lines += [f"              - !Sub {resource}" for resource in narrowed]
            if condition:
                lines.append(f"            Condition: {{{condition}}}")
        body = "\n".join(lines) + "\n"
        check_size(policy, body)
        text += f"""
  {policy}:
    Type: AWS::IAM::ManagedPolicy
{METADATA.get(policy, "")}    Properties:
      Path: /deployment/
      PolicyDocument:
        Version: '2012-10-17'
        Statement:
{body}"""
    return text


def check_size(policy: str, body: str) -> None:
    """Ends the program if a policy may be too long for IAM, with names of the greatest length."""
    for name, longest in (("Partition", 10), ("Region", 14), ("AccountId", 12)):
        body = body.replace(f"${{AWS::{name}}}", "x" * longest)
    body = body.replace(NAME, "x" * 24).replace("!Sub", "")
    # Every entry of a list gets two quotes and a comma in place of its dash.
    characters = len(re.sub(r"\s", "", body)) + 2 * body.count("- ") + 100
    if characters > MOST_CHARACTERS:
        sys.exit(f"{policy} has up to {characters} characters, of {MOST_CHARACTERS}: split it in POLICIES")


def main() -> None:
    resources = [
        resource for template in TEMPLATES for resource in transformed(template)["Resources"].values()
    ]
    check_names(resources)
    before = OUTPUT.read_text(encoding="utf-8")
    after = before[: before.index(MARK)] + MARK + policies(resources)
    if "--check" in sys.argv and after != before:
        sys.exit(f"{OUTPUT} is not what the templates need: run target/tools/sam/bin/python {sys.argv[0]}")
    OUTPUT.write_text(after, encoding="utf-8")


main()
