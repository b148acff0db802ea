"""Values for the parameters of template.yaml, with which checks change them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

# Values that the patterns of text parameters admit.
TEXTS = {
    "MailFrom": "postern@mail.example.org",
    "MailReplyTo": "help@example.org",
    "PasswordBreachUrl": "https://breaches.example.org",
    "JwtIssuer": "https://auth.example.org",
    "UsersTable": "postern-dev-users-restored",
    "UserIdsTable": "postern-dev-user-ids-restored",
    "CorsAllowOrigins": "https://app.example.org,https://www.example.org",
    "CorsAllowHeaders": "authorization,content-type,traceparent",
    "DomainName": "auth.example.org",
    "CertificateArn": "arn:aws:acm:eu-central-1:000000000000:certificate/4a1f7c1e-0d8b-4f3c-9a58-3f1f4f0d2f6b",
    "KmsKeyArn": "arn:aws:kms:eu-central-1:000000000000:key/0d3c1a52-8f0e-4d2e-9c57-6a1b2c3d4e5f",
    "AlarmEmail": "operators@example.org",
    "BrandColor": "#00695c",
    "BrandLogo": '<svg xmlns="http://www.w3.org/2000/svg"></svg>',
    "OnCallUrl": "https://calls.example.org/postern",
    "ReturnOrigins": "https://app.example.org",
}


def another_value(name: str, parameter: dict[str, Any]) -> str:
    """A valid value of a parameter, other than its default."""
    default = parameter.get("Default", "")
    for value in parameter.get("AllowedValues", []):
        if str(value) != str(default):
            return str(value)
    if parameter["Type"] == "Number":
        return str(default + 1 if default < parameter.get("MaxValue", default + 1) else default - 1)
    text = TEXTS.get(name, f"{default}x")
    if not re.fullmatch(parameter.get("AllowedPattern", ".*"), text):
        sys.exit(f"{name} needs another value in {Path(__file__).name} than {text}")
    return text
