"""Checks the logs of whole runs, that they have no secrets and one form: logs.py LOG…"""

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
# Six digits are also found in these, and tests choose ids like usernames.
IDS = ("timestamp", "request_id", "source_ip", "trace_id", "user_id", "username_hash")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")

outcomes, requests, starts = set(), 0, 0
for file in sys.argv[1:]:
    with Path(file).open(encoding="utf-8") as log:
        for line in log:
            entry = json.loads(line)
            assert not any(pattern.search(line) for pattern in (SECRET, BODY)), line
            told = json.dumps({name: value for name, value in entry.items() if name not in IDS})
            assert not CODE.search(told) and not USERNAME.search(told), line
            assert TIMESTAMP.fullmatch(entry["timestamp"]), line
            if "outcome" in entry:
                # Not unique here: the tests also send the example events, each with its own fixed id.
                assert entry["request_id"], line
                requests += 1
                outcomes.add((entry["event"], entry["outcome"]))
                assert entry["ms"] >= entry.get("hash_ms", 0) and entry["rss_mb"] > 0, line
                assert ("cold" in entry) == ("init_ms" in entry), line
                starts += "cold" in entry
assert ("signin", "signed_in") in outcomes and ("signin", "rate_limit_exceeded") in outcomes, outcomes
assert starts
print(f"{requests} requests, {len(outcomes)} kinds of outcomes, {starts} cold starts")
