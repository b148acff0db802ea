"""Checks that Mozilla still trusts the certificate authorities that are compiled in: authorities.py OURS TRUSTED"""

import re
import sys
from pathlib import Path

AUTHORITIES = 5
CERTIFICATE = re.compile("-----BEGIN.*?-----END", re.DOTALL)


def certificates(file: str) -> set[str]:
    """The certificates of a PEM file, each in one line."""
    return {text.replace("\n", "") for text in CERTIFICATE.findall(Path(file).read_text(encoding="utf-8"))}


ours, trusted = map(certificates, sys.argv[1:])
if len(ours) != AUTHORITIES:
    sys.exit(f"{len(ours)} certificate authorities are compiled in, not {AUTHORITIES}")
if not ours <= trusted:
    sys.exit("a certificate authority that is compiled in is no longer on Mozilla's list")
