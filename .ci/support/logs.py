"""Checks the logs of whole runs: no secrets, one form, and a metric for every outcome: logs.py LOG…"""

import json
import re
import sys
from pathlib import Path

SECRET = re.compile(
    r"assword1234|eyJ[\w-]{10}|\$argon2|\$2[aby]\$|\$(firebase-)?scrypt|\$pbkdf2|@example\.com|\b[0-9A-Za-z]{64}\b"
)
USERNAME = re.compile(r"st\.huber|\bci\.\d")
BODY = re.compile(r'\\"(username|(old_|new_)?password|code|session_token|session_information|msg)\\"')
CODE = re.compile(r"(?<![\w.:-])\d{6}(?![\w.:-])")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")

outcomes, counted = set(), set()
for file in sys.argv[1:]:
    with Path(file).open(encoding="utf-8") as log:
        for line in log:
            entry = json.loads(line)
            assert not any(pattern.search(line) for pattern in (SECRET, BODY)), line
            if "_aws" in entry:
                assert isinstance(entry["_aws"]["Timestamp"], int), line
                counted.add((entry.get("Event"), entry.get("Outcome")))
                continue
            # Six digits are also found in times and ids, and tests choose ids like usernames.
            told = json.dumps(
                {name: value for name, value in entry.items() if name not in ("timestamp", "span")}
            )
            assert not CODE.search(told) and not USERNAME.search(told), line
            assert TIMESTAMP.fullmatch(entry["timestamp"]), line
            if entry.get("message") == "answered":
                assert entry["span"]["request_id"], line
                outcomes.add((entry["event"], entry["outcome"]))
assert ("signin", "signed_in") in outcomes and ("signin", "rate_limit_exceeded") in outcomes, outcomes
assert counted >= outcomes, outcomes - counted
print(f"{len(outcomes)} kinds of outcomes in the audit log, and as many metrics")
