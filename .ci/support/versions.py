"""Checks which parameters publish a version of every function when they change: those that a version is made of, and no
others: versions.py TEMPLATE

SAM names a version after a hash of a part of its function, in which SAM itself leaves parameters as they are. If the name
stays, `live` keeps the old settings.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from parameters import another_value
from samcli.lib.cfn_language_extensions.sam_integration import expand_language_extensions
from transform import defaults, read, transformed

FUNCTION = "AWS::Serverless::Function"
# Not settings, but part of each version.
CONFIGURATION = {"Architecture", "Tracing"}


def setting_of(parameter: str) -> str:
    """The name of the setting: PASSWORD_MIN_LENGTH for PasswordMinLength."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", parameter).upper()


def main() -> None:
    template = read(sys.argv[1])
    resources = template["Resources"]
    functions = {name: value for name, value in resources.items() if value["Type"] == FUNCTION}
    # Nothing else has versions. Routes would need the API, and how a version takes over does not matter here.
    for properties in [
        template["Globals"]["Function"],
        *(value["Properties"] for value in functions.values()),
    ]:
        properties.pop("Events", None)
        properties.pop("DeploymentPreference", None)
    template |= {"Resources": functions, "Outputs": {}}

    def versions(changes: dict[str, Any]) -> set[str]:
        parameters = defaults(template) | changes
        # Does nothing unless the template names the transformation.
        resolved = expand_language_extensions(template, parameters, enabled=True).expanded_template
        result = transformed(resolved, parameters)["Resources"]
        return {name for name, value in result.items() if value["Type"] == "AWS::Lambda::Version"}

    present = versions({})
    assert len(present) == len(functions), present
    variables = next(iter(functions.values()))["Properties"]["Environment"]["Variables"]
    others, kept = {}, {}
    for name, parameter in template["Parameters"].items():
        is_part = name in CONFIGURATION or setting_of(name) in variables
        (others if is_part else kept)[name] = another_value(name, parameter)
    for name, value in others.items():
        if remaining := present & versions({name: value}):
            sys.exit(f"{name} does not reach {sorted(remaining)}")
    if versions(kept) != present:
        wrong = [name for name, value in kept.items() if versions({name: value}) != present]
        sys.exit(f"{wrong} publish versions, but are no part of them")
    print(f"{len(others)} parameters publish versions, {len(kept)} do not")


main()
