"""Prints a template as CloudFormation gets it once SAM has transformed it, with a made-up place for the code.

Circular dependencies, such as an API's alarm that rolls back the API's own functions, are seen in this form only.
"""

import json
import sys

import boto3
from cfnlint.decode import decode
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

template, _ = decode(sys.argv[1])
template = json.loads(json.dumps(template))
for resource in template["Resources"].values():
    if "CodeUri" in resource.get("Properties", {}):
        resource["Properties"]["CodeUri"] = "s3://bucket/key"
parameters = {name: parameter.get("Default", "") for name, parameter in template["Parameters"].items()}
session = boto3.Session(region_name="eu-central-1")
print(json.dumps(Translator({}, Parser(), boto_session=session).translate(template, parameters), indent=1))
