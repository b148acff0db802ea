#!/usr/bin/env python3
"""Imports users into Postern and exports them. README.md in this folder is the guide."""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Call = Callable[[Json], Json]

FIELDS: dict[str, tuple[type, ...]] = {
    "username": (str,),
    "password_hash": (str, dict),
    "password": (str,),
    "email_addresses": (list,),
    "activated": (bool,),
    "must_change_password": (bool,),
    "user_id": (str, int),
    "locale": (str,),
    "created_at": (str,),
    "password_changed_at": (str,),
    "last_signin_at": (str,),
}
BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
BATCH = 100  # the most that one call imports
MAX_USER_BYTES = 32 * 1024  # a batch of them fits into the 6 MB of a call

TAKEN = re.compile(r"\$(argon2(id|i|d)|2[aby]|pbkdf2-sha(256|512)|scrypt|firebase-scrypt)\$")
# Prefixes of hashes that are ordinary otherwise: Django's, Spring Security's, and Dovecot's and OpenLDAP's.
PREFIX = re.compile(
    r"(?:bcrypt\$|argon2|\{(?:bcrypt|argon2|argon2@SpringSecurity_v5_8|ARGON2I|ARGON2ID|BLF-CRYPT|CRYPT)\})"
    r"(?=\$(?:2|argon2))",
    re.IGNORECASE,
)
CONVERTED = (
    r"pbkdf2_(?P<prf>sha256)\$(?P<i>\d+)\$(?P<salt>[^$]+)\$(?P<b64>[^$]+)",  # Django
    r"scrypt\$(?P<n>\d+)\$(?P<salt>[^$]+)\$(?P<r>\d+)\$(?P<p>\d+)\$(?P<b64>[^$]+)",  # Django
    r"pbkdf2:(?P<prf>sha256|sha512):(?P<i>\d+)\$(?P<salt>[^$]+)\$(?P<hex>[0-9a-f]+)",  # Werkzeug
    r"scrypt:(?P<n>\d+):(?P<r>\d+):(?P<p>\d+)\$(?P<salt>[^$]+)\$(?P<hex>[0-9a-f]+)",  # Werkzeug
    r"\$pbkdf2-(?P<prf>sha256|sha512)\$(?P<i>\d+)\$(?P<salt64>[^$=]+)\$(?P<b64>[^$]+)",  # passlib
    r"\{PBKDF2-(?P<prf>SHA256|SHA512)\}(?P<i>\d+)\$(?P<salt64>[^$]+)\$(?P<b64>[^$]+)",  # passlib, for LDAP
    r"\{pbkdf2@SpringSecurity_v5_8\}(?P<salthex>[0-9a-f]{32})(?P<hex>[0-9a-f]{64})",
    r"\{scrypt(?:@SpringSecurity_v5_8)?\}\$(?P<nrp>[0-9a-f]{5,6})\$(?P<salt64>[^$]+)\$(?P<b64>[^$]+)",
    r"(?P<salt>[0-9a-f]{32}):(?P<hex>[0-9a-f]{128})",  # better-auth: the salt is the text
)
DEFAULTS = {"prf": "sha256", "i": "310000"}  # of Spring Security 5.8, which writes neither
BETTER_AUTH = {"n": "16384", "r": "16", "p": "1"}  # nor does better-auth
REFUSED = (
    (r"bcrypt_sha256\$|\$bcrypt-sha256\$", "bcrypt of a hash of the password cannot be verified"),
    (r"pbkdf2_sha1\$|pbkdf2:sha1:|\$pbkdf2\$|\{pbkdf2\}", "PBKDF2 with SHA-1 is not taken"),
    (r"\$[PH]\$", "phpass, which is MD5, is not taken"),
    (r"\$[156]\$", "crypt with MD5 or SHA-2 is not taken"),
    (r"\$argon2", "an Argon2 hash that is not complete"),
)


def convert(stored: str | Json, firebase: dict[str, str] | None = None) -> str:
    """The form in which Postern takes a hash; a `ValueError` if there is none."""
    if isinstance(stored, str) and re.match(r'\{\s*"', stored):
        stored = json.loads(stored)
    if isinstance(stored, dict):
        return from_keycloak(stored) if "credentialData" in stored else from_firebase(stored, firebase)
    found = next((match for form in CONVERTED if (match := re.fullmatch(form, stored))), None)
    if found:
        part = found.groupdict()
        digest = bytes.fromhex(part["hex"]) if "hex" in part else decode(part["b64"])
        if "salt" in part:
            salt = part["salt"].encode()
        else:
            salt = bytes.fromhex(part["salthex"]) if "salthex" in part else decode(part["salt64"])
        if "salthex" in part or "prf" in part:
            return pbkdf2(
                **{name: part.get(name, default) for name, default in DEFAULTS.items()},
                salt=salt,
                digest=digest,
            )
        if "nrp" in part:
            nrp = int(part["nrp"], 16)
            return scrypt(1 << (nrp >> 16), nrp >> 8 & 0xFF, nrp & 0xFF, salt, digest)
        n, r, p = (int(part.get(name, default)) for name, default in BETTER_AUTH.items())
        return scrypt(n, r, p, salt, digest)
    if stored.startswith("AQAAAA"):
        return from_aspnet(stored)
    stored = PREFIX.sub("", stored, count=1)
    if not TAKEN.match(stored):
        reasons = (reason for form, reason in REFUSED if re.match(form, stored))
        raise ValueError(f"password_hash: {next(reasons, 'of no form that can be taken')}")
    return stored


def from_keycloak(credential: Json) -> str:
    """A credential of Keycloak's export of a realm: two texts, each of which is JSON."""
    data, secret = json.loads(credential["credentialData"]), json.loads(credential["secretData"])
    salt, digest, algorithm = decode(secret["salt"]), decode(secret["value"]), data["algorithm"]
    if algorithm in ("pbkdf2-sha256", "pbkdf2-sha512"):
        return pbkdf2(algorithm[len("pbkdf2-") :], data["hashIterations"], salt, digest)
    if algorithm != "argon2":
        raise ValueError(f"password_hash: Keycloak's {algorithm} is not taken")
    kind, version, memory, lanes = (
        data["additionalParameters"][name][0] for name in ("type", "version", "memory", "parallelism")
    )
    version = {"1.0": 16, "1.3": 19}[version]
    return phc(f"argon2{kind}$v={version}$m={memory},t={data['hashIterations']},p={lanes}", salt, digest)


def from_firebase(user: Json, config: dict[str, str] | None) -> str:
    """`passwordHash` and `salt` of Firebase's `auth:export`. The service needs no signer key: what it compares is the
    key stream with which Firebase encrypts that key."""
    if config is None:
        raise ValueError("password_hash: for a hash of Firebase, --firebase-hash-config has to be given")
    digest, key = decode(user["passwordHash"]), decode(config["base64_signer_key"])
    if len(digest) != len(key):
        raise ValueError("password_hash: not as long as the signer key")
    salt = decode(user["salt"]) + decode(config["base64_salt_separator"])
    stream = bytes(of_hash ^ of_key for of_hash, of_key in zip(digest, key))
    return phc(f"firebase-scrypt$ln={int(config['mem_cost'])},r={int(config['rounds'])},p=1", salt, stream)


def from_aspnet(stored: str) -> str:
    """Version 3 of ASP.NET Core Identity: a version, the hash function, rounds and the length of the salt."""
    data = decode(stored)
    _, prf, rounds, length = struct.unpack_from(">BIII", data)
    if prf not in (1, 2):
        raise ValueError("password_hash: PBKDF2 with SHA-1 is not taken")
    return pbkdf2(("", "sha256", "sha512")[prf], rounds, data[13 : 13 + length], data[13 + length :])


def pbkdf2(prf: str, i: str | int, salt: bytes, digest: bytes) -> str:
    return phc(f"pbkdf2-{prf.lower()}$i={int(i)},l={len(digest)}", salt, digest)


def scrypt(n: int, r: int, p: int, salt: bytes, digest: bytes) -> str:
    if n < 2 or n & (n - 1):
        raise ValueError("password_hash: scrypt's N is no power of two")
    return phc(f"scrypt$ln={n.bit_length() - 1},r={r},p={p}", salt, digest)


def phc(function: str, salt: bytes, digest: bytes) -> str:
    if not 8 <= len(salt) <= 48:
        raise ValueError(f"password_hash: a salt of {len(salt)} bytes: it has to have 8 to 48")
    if not 10 <= len(digest) <= 64:
        raise ValueError(f"password_hash: a digest of {len(digest)} bytes: it has to have 10 to 64")
    return "$" + "$".join(
        [function, *(base64.b64encode(data).decode().rstrip("=") for data in (salt, digest))]
    )


def decode(text: str) -> bytes:
    """Base64 with or without its padding, or the varieties of it that passlib and URLs have."""
    text = text.rstrip("=").translate(str.maketrans(".-_", "++/"))
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def read(path: Path) -> Iterator[Any]:
    """The users of a CSV file or of JSON lines, `None` for what is not JSON."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        if path.suffix != ".csv":
            for line in filter(str.strip, file):
                try:
                    yield json.loads(line, object_pairs_hook=without_repetition)
                except (ValueError, RecursionError):
                    yield None
            return
        header = file.readline().strip()
        # Spreadsheets write semicolons where a comma is the decimal point.
        delimiter = ";" if header.count(";") > header.count(",") else ","
        names = [name.strip().strip('"') for name in header.rstrip(delimiter).split(delimiter)]
        rows = csv.DictReader(file, names, restkey="more columns than are named", delimiter=delimiter)
        if not {"username"} <= set(names) <= set(FIELDS) or len(names) > len(set(names)):
            sys.exit(f"{path}: its first line must name the columns: username and any of {', '.join(FIELDS)}")
        for row in rows:
            user: Json = {name: value for name, value in row.items() if value and value != [""]}
            for name in {"activated", "must_change_password"} & set(user):
                user[name] = BOOLEANS.get(user[name].lower(), user[name])
            if "email_addresses" in user:
                user["email_addresses"] = re.split("[;,]", user["email_addresses"])
            yield user


def without_repetition(pairs: list[tuple[str, Any]]) -> Json:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a field is given twice")
    return dict(pairs)


def default_id(content: str, number: int) -> str:
    """An id that follows from the file, so that whoever exists with it was created by an earlier run."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{content} {number}"))


def prepare(row: Any, user_id: str, options: argparse.Namespace) -> Json:
    """What to send for a row: nothing that fails the call for others. A `ValueError` says why not."""
    if not isinstance(row, dict):
        raise ValueError("not a JSON object, or one with a field that is given twice")
    user = {
        name: value for name, value in row.items() if name not in ("number", "reason") and value is not None
    }
    for name, value in user.items():
        if type(value) not in FIELDS.get(name, ()) or (
            name == "email_addresses" and {*map(type, value)} - {str}
        ):
            raise ValueError(f"{name}: no such field, or not of its type")
    # Keyboards and spreadsheets put blanks around names, which Postern refuses, and separators after the last address.
    if "username" in user:
        user["username"] = user["username"].strip()
    if "email_addresses" in user:
        user["email_addresses"] = [text for text in map(str.strip, user["email_addresses"]) if text]
    stored = user.pop("password_hash", "!")
    if isinstance(stored, dict) or not stored.startswith("!"):  # Django's mark of a user without a password
        try:
            user["password_hash"] = convert(stored, options.firebase)
        except (KeyError, TypeError, AttributeError, struct.error) as error:
            raise ValueError(f"password_hash: incomplete or damaged ({error!r})") from error
    elif "password" not in user and not options.without_passwords:
        raise ValueError("neither a hash nor a password")
    user["user_id"] = str(user.get("user_id", user_id))
    if len(json.dumps(user, ensure_ascii=False).encode()) > MAX_USER_BYTES:
        raise ValueError("too large")
    return user


def import_batch(call: Call, rows: dict[int, Any], content: str, options: argparse.Namespace) -> Json:
    users, failed, existed = {}, {}, 0
    for number, row in rows.items():
        try:
            users[number] = prepare(row, default_id(content, number), options)
        except ValueError as error:
            failed[number] = "not UTF-8" if isinstance(error, UnicodeError) else str(error)
    refused = call({"action": "import", "users": list(users.values())})["failed"] if users else []
    in_order = iter(users.items())
    for failure in refused:
        number, user = next(item for item in in_order if item[1].get("username") == failure["username"])
        if failure["error_code"] == "user_exists":
            found = call({"action": "get", "username": user["username"]})
            if found.get("user", {}).get("user_id") == user["user_id"]:
                existed += 1
                continue
        errors = [text for texts in failure.get("errors", {}).values() for text in texts]
        failed[number] = " ".join([failure["error_code"], *errors])
    return {"numbers": list(rows), "existed": existed, "failed": failed}


def import_users(call: Call, path: Path, target: str, options: argparse.Namespace) -> int:
    rows = dict(enumerate(read(path), 1))
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    journal, failures = Path(f"{path}.progress"), Path(f"{path}.failed.jsonl")
    begun, *done = read_journal(journal) or [None]
    if begun not in (None, f"{content} {target}"):
        sys.exit(f"{journal} is of another import: it had other content, or went elsewhere")
    left = sorted(set(rows) - {number for batch in done for number in batch["numbers"]})
    pool = ThreadPoolExecutor(options.parallel)
    try:
        with journal.open("a", buffering=1) as file:
            # After a line break, so that a line that was cut short spoils no other.
            file.write("\n" if begun else json.dumps(f"{content} {target}") + "\n")
            batches = [{n: rows[n] for n in left[at : at + BATCH]} for at in range(0, len(left), BATCH)]
            calls = [pool.submit(import_batch, call, batch, content, options) for batch in batches]
            for ended in as_completed(calls):
                done.append(ended.result())
                file.write(json.dumps(done[-1]) + "\n")
                say(f"{sum(len(batch['numbers']) for batch in done)} of {len(rows)} users")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    failed = {int(number): reason for batch in done for number, reason in batch["failed"].items()}
    existed = sum(batch["existed"] for batch in done)
    with open(failures, "w", opener=private) as file:
        for number, reason in sorted(failed.items()):
            row = rows[number] if isinstance(rows[number], dict) else {}
            row = {"user_id": default_id(content, number), **row, "number": number, "reason": reason}
            file.write(json.dumps(row) + "\n")
    if not failed:
        failures.unlink()
    journal.unlink()
    print(f"{len(rows) - existed - len(failed)} imported, {existed} were there, {len(failed)} failed")
    return 1 if failed else 0


def read_journal(path: Path) -> list[Any]:
    entries = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            entries.append(json.loads(line))
        except ValueError:  # cut short when the import was broken off
            continue
    return entries


def pages(call: Call, request: Json) -> Iterator[Json]:
    while True:
        answer = call({"limit": 1000, **request})
        yield answer
        if "cursor" not in answer:
            return
        request = {**request, "cursor": answer["cursor"]}


def export_users(call: Call, path: Path, target: str) -> int:
    """Fills FILE.part; FILE.progress says how much of that counts, and where to go on."""
    part, progress = Path(f"{path}.part"), Path(f"{path}.progress")
    if path.exists():
        sys.exit(f"{path} exists")
    begun, cursor, size, count = [target, None, 0, 0]
    if progress.exists():
        begun, cursor, size, count = json.loads(progress.read_text())
    if begun != target:
        sys.exit(f"{progress} is of an export from elsewhere")
    with open(part, "ab", opener=private) as file:
        file.truncate(size)
        for page in pages(call, {"cursor": cursor}):
            file.writelines(json.dumps(user).encode() + b"\n" for user in page["users"])
            file.flush()
            count += len(page["users"])
            if "cursor" in page:
                replacement = Path(f"{progress}.new")
                replacement.write_text(json.dumps([target, page["cursor"], file.tell(), count]))
                replacement.replace(progress)
            say(f"{count} users")
    progress.unlink(missing_ok=True)
    part.rename(path)
    print(f"{count} exported")
    return 0


def count_outdated(call: Call) -> int:
    users = outdated = 0
    for page in pages(call, {"action": "count_outdated_hashes"}):
        users, outdated = users + page["users"], outdated + page["outdated"]
        say(f"{users} users")
    print(f"{outdated} of {users} users have a hash of another form than new ones")
    return 0


def caller(function: str, endpoint_url: str | None) -> Call:
    """Calls a function through the AWS CLI, or at a plain HTTP address, the local stack, without it."""

    def post(payload: bytes) -> bytes:
        url = f"{endpoint_url}/2015-03-31/functions/{function}/invocations"
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            url, payload, timeout=60
        ) as answer:
            return bytes(answer.read())

    def invoke(payload: bytes) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            sent, received = Path(folder, "sent"), Path(folder, "received")
            sent.write_bytes(payload)
            command = ["aws", "lambda", "invoke", "--function-name", function, "--payload", f"fileb://{sent}"]
            command += ["--endpoint-url", endpoint_url] if endpoint_url else []
            subprocess.run([*command, str(received)], check=True, stdout=subprocess.DEVNULL)
            return received.read_bytes()

    def call(payload: Json) -> Json:
        local = endpoint_url is not None and endpoint_url.startswith("http://")
        try:
            answer: Json = json.loads((post if local else invoke)(json.dumps(payload).encode()))
        except subprocess.CalledProcessError:
            sys.exit("The AWS CLI could not call it; the same command goes on from here")
        except (OSError, ValueError) as error:
            sys.exit(f"{function}: {error}; the same command goes on from here")
        if not answer.get("ok") and answer.get("error_code") != "unknown_username":
            sys.exit(f"{function}: {answer}; the same command goes on from here")
        return answer

    return call


def firebase_hash_config(path: str) -> dict[str, str]:
    found = dict(re.findall(r"(\w+)[\"']?\s*[:=]\s*[\"']?([\w+/=-]+)", Path(path).read_text()))
    needed = ("base64_signer_key", "base64_salt_separator", "rounds", "mem_cost")
    if missing := [name for name in needed if name not in found]:
        raise argparse.ArgumentTypeError(f"{path} lacks {', '.join(missing)}")
    return found


def private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def say(progress: str) -> None:
    print(progress, end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, function, about in (
        ("import", "manage_users", "create the users of FILE, CSV (*.csv) or JSON lines"),
        ("export", "export_users", "write all users to FILE, with their hashes, as JSON lines"),
        ("count-outdated", "manage_users", "count the hashes that are replaced when their users sign in"),
    ):
        command = commands.add_parser(name, help=about, description=about)
        command.add_argument(
            "--function-name", default=function, help="its deployed name (default: %(default)s)"
        )
        command.add_argument("--endpoint-url", help="where Lambda is; the AWS CLI is not needed for http://…")
        if name != "count-outdated":
            command.add_argument("file", metavar="FILE", type=Path)
        if name == "import":
            command.add_argument(
                "--parallel", type=int, default=4, help="calls at a time (default: %(default)s)"
            )
            command.add_argument(
                "--without-passwords",
                action="store_true",
                help="create users who have neither a hash nor a password: they have to set one by a reset",
            )
            command.add_argument(
                "--firebase-hash-config",
                dest="firebase",
                type=firebase_hash_config,
                metavar="FILE",
                help="hash_config of a Firebase project, as its console shows it",
            )
    options = parser.parse_args()
    call = caller(options.function_name, options.endpoint_url)
    target = f"{options.function_name} {options.endpoint_url}"
    if options.command == "import":
        return import_users(call, options.file, target, options)
    if options.command == "export":
        return export_users(call, options.file, target)
    return count_outdated(call)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        os._exit(130)  # without waiting for the calls under way: the same command goes on from here
    except (OSError, csv.Error) as error:
        sys.exit(str(error))
