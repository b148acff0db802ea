#!/usr/bin/env python3
"""Administers the users of Postern from a shell. README.md in this folder is the guide."""

from __future__ import annotations

import argparse
import base64
import contextlib
import csv
import fcntl
import getpass
import hashlib
import http.client
import inspect
import json
import os
import re
import secrets
import shutil
import struct
import subprocess
import sys
import unicodedata
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, TextIO

Json = dict[str, Any]
Options = argparse.Namespace
Add = Callable[..., Any]
Outcomes = Iterator[tuple[Any, Future[Any]]]

STATUSES = """\
exit status:
  0  done
  1  refused: by the service (unknown user, invalid value), or by you at a question;
     an import: some users were not imported; find: no user has the address
  2  the command line or a file is wrong
  3  the service was not reached or failed: the same command may succeed later
"""
PAGE = 1000  # the most users that one call returns
BATCH = 100  # the most that one call imports
MAX_USER_BYTES = 32 * 1024  # a batch of them fits into the 6 MB of a call
TIMEOUT = 75  # seconds; manage_users has 60, so a call that is still running is never repeated
FAILURES_IN_A_ROW = 10  # after as many, the service is down and not only slow
LOCAL = "http://127.0.0.1:4566"
GOES_ON = "the same command continues from here"


class ProblemError(Exception):
    """An error that is told in one line, with the exit status that it leads to."""

    status, code = 2, "usage"

    def __init__(self, message: str, code: str | None = None, errors: Json | None = None) -> None:
        # The errors of the fields say more than the message.
        details = [text for texts in (errors or {}).values() for text in texts]
        super().__init__(" ".join(details) or message)
        self.code = code or self.code
        self.json = {"error_code": self.code, "msg": message, **({"errors": errors} if errors else {})}


class MisuseError(ProblemError):
    """The command line or a file is wrong."""


class RefusedError(ProblemError):
    """The service refused, or the operator did so at a question."""

    status = 1


class UnreachableError(ProblemError):
    """There was no answer, or the answer was a failure of the service."""

    status, code = 3, "unreachable"


# ---- The service

AWS_ERRORS = (
    (r"locate credentials|SSO Token|sso login", "the AWS credentials are missing: sign in, or use --profile"),
    (r"(?i)expired", "the AWS credentials have expired: sign in again"),
    (r"UnrecognizedClient|InvalidClientTokenId|Signature|token .* is invalid", "AWS refuses the credentials"),
    (r"ResourceNotFound", "there is no function {function} here: check --stack, --region and --profile"),
    (r"TooManyRequests|(?i:throttl|rate exceeded)", "AWS throttles calls of {function}: try again later"),
    (r"specify a region|NoRegion", "the region is missing: use --region, or set AWS_REGION"),
    (r"(?i)could not connect|connect timeout|connection was closed", "{message}: is there a network?"),
    (r"(?i)read timeout", "{function} did not answer in time"),
    (r"", "{message}"),
)


class Service:
    """The functions of one deployment, called by the AWS CLI, or on this machine by plain HTTP."""

    def __init__(self, options: Options) -> None:
        environment = os.environ
        self.local: str | None = options.local
        self.stack: str = options.stack
        region = options.region or environment.get("AWS_REGION")
        endpoint = environment.get("AWS_ENDPOINT_URL_LAMBDA") or environment.get("AWS_ENDPOINT_URL")
        # Version 1 of the CLI does not know AWS_REGION, and version 2 knows AWS_ENDPOINT_URL only since 2.13.
        given = (("--region", region), ("--profile", options.profile), ("--endpoint-url", endpoint))
        self.options = [part for name, value in given if value for part in (name, value)]
        profile = options.profile or environment.get("AWS_PROFILE")
        region = region or environment.get("AWS_DEFAULT_REGION")
        self.name = f"the stack {self.stack}"
        if self.local:
            self.name = f"the local stack at {self.local}"
        elif region or profile:
            self.name += f" ({', '.join(part for part in (region, profile) if part)})"

    def manage(self, action: str, **fields: Any) -> Json:
        return self.call("manage_users", {"action": action, **fields})

    def call(self, function: str, payload: Json) -> Json:
        """The answer of a function, which may hold hashes, as the payload may hold a password: both go through pipes,
        and neither is ever an argument, a variable of the environment or a file."""
        invoke = self.post if self.local else self.invoke
        answer: Json = invoke(function, json.dumps(payload).encode())
        if answer.get("ok"):
            return answer
        code, message = answer.get("error_code", ""), answer.get("msg", "")
        if code in ("service_unavailable", "internal_error") or not code:
            raise UnreachableError(message or f"{function} answered in an unknown form", code)
        raise RefusedError(message, code, answer.get("errors"))

    def post(self, function: str, payload: bytes) -> Json:
        url = f"{self.local}/2015-03-31/functions/{function}/invocations"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(urllib.request.Request(url, payload), timeout=TIMEOUT) as answer:
                body, failed = json.loads(answer.read()), "X-Amz-Function-Error" in answer.headers
        except urllib.error.HTTPError as error:
            raise UnreachableError(f"{url} answered {error.code}") from error
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise UnreachableError(f"{self.local} cannot be reached: {reason}") from error
        except (ValueError, http.client.HTTPException) as error:
            raise UnreachableError(f"{url} does not answer as Lambda does") from error
        return self.unless_failed(function, body, failed)

    def invoke(self, function: str, payload: bytes) -> Json:
        function = f"{self.stack}-{function}"
        command = ["aws", "lambda", "invoke", "--function-name", function, "--payload", "fileb:///dev/stdin"]
        command += ["--cli-read-timeout", str(TIMEOUT), "--output", "json", *self.options, "/dev/stdout"]
        environment = {**os.environ, "AWS_PAGER": ""}
        try:
            done = subprocess.run(command, check=False, input=payload, capture_output=True, env=environment)
        except FileNotFoundError as error:
            raise UnreachableError("the AWS CLI is not installed, or `aws` is not on the PATH") from error
        if done.returncode:
            stderr = done.stderr.decode(errors="replace")
            lines = [line.strip() for line in stderr.splitlines() if line.strip()] or ["`aws` failed"]
            message = next((line for line in lines if "An error occurred" in line), lines[-1])
            told = next(text for pattern, text in AWS_ERRORS if re.search(pattern, stderr))
            raise UnreachableError(told.format(function=function, message=message))
        try:
            # The answer of the function, and after it the CLI's own.
            text = done.stdout.decode()
            body, end = json.JSONDecoder().raw_decode(text)
            failed = "FunctionError" in json.loads(text[end:])
        except ValueError as error:
            raise UnreachableError("`aws` answered in an unknown form") from error
        return self.unless_failed(function, body, failed)

    @staticmethod
    def unless_failed(function: str, body: Any, failed: bool) -> Json:
        if failed or not isinstance(body, dict):
            reason = body.get("errorMessage") if isinstance(body, dict) else None
            raise UnreachableError(f"{function} failed: {reason or 'its log says why'}")
        return body


def pages(service: Service, function: str = "manage_users", **fields: Any) -> Iterator[Json]:
    """The answers about all users, a page each."""
    while True:
        answer = service.call(function, {"limit": PAGE, **fields})
        yield answer
        if "cursor" not in answer:
            return
        fields["cursor"] = answer["cursor"]


def in_parallel(work: Callable[[Any], Any], items: Iterable[Any], calls: int) -> Outcomes:
    """Every item with the outcome of `work`, in the order in which they end. Only a few items are taken ahead of that,
    so there may be any number of them."""
    pool = ThreadPoolExecutor(calls)
    pending: dict[Future[Any], Any] = {}

    def ended() -> Outcomes:
        for future in wait(pending, return_when=FIRST_COMPLETED).done:
            yield pending.pop(future), future

    try:
        for item in items:
            pending[pool.submit(work, item)] = item
            if len(pending) >= 2 * calls:
                yield from ended()
        while pending:
            yield from ended()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


# ---- The terminal


class Progress:
    """A line about long work that overwrites itself; only on a terminal."""

    shown = False

    def show(self, text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)
            self.shown = True

    def clear(self) -> None:
        if self.shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self.shown = False


progress = Progress()


def say(text: str) -> None:
    progress.clear()
    print(text)


def emit(value: Any) -> None:
    say(json.dumps(value, ensure_ascii=False))


def tell(error: ProblemError, options: Options, username: str | None = None) -> None:
    progress.clear()
    if options.json:
        about = {} if username is None else {"username": username}
        print(json.dumps({**about, **error.json}), file=sys.stderr)
    else:
        about = "users.py" if username is None else visible(username)
        print(f"{about}: {visible(str(error))}", file=sys.stderr)


def visible(text: str) -> str:
    """Text without control characters: names and addresses must not steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def width(text: str) -> int:
    """The number of columns that a text takes up."""
    wide = unicodedata.east_asian_width
    return sum(2 if wide(c) in "WF" else not unicodedata.combining(c) for c in text)


def cut(text: str, limit: int) -> str:
    if width(text) <= limit:
        return text
    while width(text) > limit - 1:
        text = text[:-1]
    return text + "…"


class Table:
    """Rows in columns, printed in portions. On a terminal, the widest cells are cut so that each row is one line."""

    def __init__(self, *headings: str) -> None:
        self.headings: list[str] | None = list(headings)
        self.widths = [0] * len(headings)

    def print(self, rows: Iterable[list[str]]) -> None:
        cells = [[visible(cell) for cell in row] for row in rows]
        if cells and self.headings:
            cells, self.headings = [self.headings, *cells], None
        for row in cells:
            self.widths = [max(before, width(cell)) for before, cell in zip(self.widths, row)]
        limits = list(self.widths)
        available = shutil.get_terminal_size().columns - 2 * (len(limits) - 1)
        while sys.stdout.isatty() and sum(limits) > available and max(limits) > 8:
            limits[limits.index(max(limits))] -= 1
        for row in cells:
            fitting = [cut(cell, limit) for cell, limit in zip(row, limits)]
            padded = (text + " " * (limit - width(text)) for text, limit in zip(fitting, limits))
            say("  ".join(padded).rstrip())


def moment(text: str | None) -> str:
    return f"{text[:16].replace('T', ' ')} UTC" if text else "never"


def table_of_users() -> Table:
    return Table("USERNAME", "USER ID", "STATE", "LAST SIGN-IN", "E-MAIL ADDRESSES")


def row(user: Json) -> list[str]:
    state = "active" if user["activated"] else "not activated"
    state += ", must change password" if user["must_change_password"] else ""
    times, addresses = moment(user["last_signin_at"]), ", ".join(user["email_addresses"])
    return [user["username"], user["user_id"], state, times, addresses]


def show(answer: Json, options: Options) -> int:
    """Prints one user."""
    user = answer["user"]
    if options.json:
        emit(user)
        return 0
    lines = {
        "username": user["username"],
        "user id": user["user_id"],
        "e-mail addresses": ", ".join(user["email_addresses"]) or "none",
        "locale": user.get("locale", "none"),
        "activated": "yes" if user["activated"] else "no",
        "must change password": "yes" if user["must_change_password"] else "no",
        "created": moment(user["created_at"]),
        "password changed": moment(user["password_changed_at"]),
        "last sign-in": moment(user["last_signin_at"]),
    }
    for name, text in lines.items():
        say(f"{name:<20}  {visible(text)}")
    return 0


def finish(result: Json, text: str, options: Options) -> int:
    """Prints the result of a command, and returns its exit status."""
    say(json.dumps(result) if options.json else text)
    return 0


def confirm(question: str, options: Options) -> None:
    """Goes on only if the operator agrees."""
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise MisuseError("this asks before it acts: run it on a terminal, or with --yes")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise RefusedError("nothing was done", "declined")


def read_password() -> str:
    """A password from a prompt that does not show it, or from a line of standard input."""
    if sys.stdin.isatty():
        try:
            password = getpass.getpass("New password: ")
            if getpass.getpass("The same again: ") != password:
                raise MisuseError("the two passwords are not the same")
        except EOFError:
            raise MisuseError("no password was given") from None
    else:
        try:
            password = re.sub(r"\r?\n\Z", "", sys.stdin.buffer.read().decode())
        except UnicodeError:
            # Without the cause, which would show a part of it.
            raise MisuseError("the password on standard input is not UTF-8") from None
    if not password or "\n" in password:
        raise MisuseError("a password is one line, which is not empty")
    return password


# ---- The commands


def create(service: Service, options: Options) -> int:
    """Creates a user.

    Without --password, the user has none and chooses one by forgotPassword, for
    which an e-mail address is needed. Prefer that: a password that you choose is
    known to two people.

    example: users.py create st.huber --email st.huber@example.com --activated
    """
    fields: Json = {"email_addresses": options.email, "user_id": options.user_id, "locale": options.locale}
    fields["password"] = read_password() if options.password else None
    fields = {name: value for name, value in fields.items() if value is not None}
    return show(service.manage("create", username=options.username, **flags(options), **fields), options)


def get(service: Service, options: Options) -> int:
    """Shows a user.

    example: users.py get st.huber
    example: users.py get --id st.huber-33 --json
    """
    if (options.username is None) == (options.id is None):
        raise MisuseError("get takes either a username or --id with a user id")
    wanted = {"username": options.username} if options.id is None else {"user_id": options.id}
    return show(service.manage("get", **wanted), options)


def find(service: Service, options: Options) -> int:
    """Finds the users who have an e-mail address.

    Reads all users, because addresses have no index. Upper and lower case are the
    same.

    example: users.py find st.huber@example.com
    """
    if print_users(service, options, email_address=options.address):
        return 0
    raise RefusedError("no user has this e-mail address", "not_found")


def list_users(service: Service, options: Options) -> int:
    """Lists all users, in no particular order.

    example: users.py list --limit 20
    example: users.py list --json | jq -r 'select(.activated | not).username'
    """
    print_users(service, options, options.limit)
    return 0


def update(service: Service, options: Options) -> int:
    """Changes the addresses, the locale or the state of a user.

    The rest stays as it is. --no-activated ends all sessions and tokens of the
    user. New addresses replace all old ones, and the user is told of them by mail,
    at the old and the new ones.

    example: users.py update st.huber --no-activated
    example: users.py update st.huber --email huber@example.com --locale de-AT
    """
    changes = flags(options)
    if options.email is not None:
        changes["email_addresses"] = options.email
    if options.locale is not None:
        changes["locale"] = options.locale or None
    if not changes:
        raise MisuseError("there is nothing to change: see users.py update --help")
    return show(service.manage("update", username=options.username, **changes), options)


def rename(service: Service, options: Options) -> int:
    """Gives a user another name.

    The id, the password and everything else stay. All sessions and tokens of the
    user end.

    example: users.py rename st.huber st.huber-maier
    """
    answer = service.manage("rename", username=options.username, new_username=options.new_username)
    return show(answer, options)


def set_password(service: Service, options: Options) -> int:
    """Sets the password of a user.

    Asks for it twice, or reads one line of standard input; it is never an
    argument. All sessions and tokens of the user end, and the user is told by
    mail. With --random, users get a long random password that is not shown, and
    choose another one by forgotPassword.

    example: users.py set-password st.huber --must-change-password
    example: users.py set-password --random st.huber an.other
    """
    demand = {"must_change_password": bool(options.must_change_password)}

    def act(username: str) -> Json:
        password = secrets.token_urlsafe(48) if options.random else given
        return service.manage("set_password", username=username, password=password, **demand)

    if not options.random and (options.all or len(options.usernames) != 1):
        raise MisuseError("this takes one username; several need --random")
    confirm_all(
        f"All users of {service.name} get a random password that is not shown. Their sessions and tokens end,\n"
        "each of them gets a mail, and has to choose a password by forgotPassword. Go on?",
        options,
    )
    given = "" if options.random else read_password()
    return for_each(service, options, "password set", act)


def unlock(service: Service, options: Options) -> int:
    """Clears the limits of users: failed sign-ins, wrong codes, and mails with codes.

    example: users.py unlock st.huber
    """
    return for_each(service, options, "unlocked", lambda name: service.manage("unlock", username=name))


def revoke(service: Service, options: Options) -> int:
    """Ends all sessions, tokens and reset codes of users. Passwords stay.

    example: users.py revoke st.huber an.other
    example: users.py revoke --all
    """
    confirm_all(f"All sessions and tokens of all users of {service.name} end. Go on?", options)
    done = "sessions and tokens ended"
    return for_each(service, options, done, lambda name: service.manage("revoke_sessions", username=name))


def delete(service: Service, options: Options) -> int:
    """Deletes users, after it has shown them and asked.

    Their names and ids are free at once.

    example: users.py delete st.huber
    example: users.py delete --yes st.huber an.other
    """
    if not options.yes and sys.stdin.isatty():
        found = [service.manage("get", username=name)["user"] for name in options.usernames]
        table_of_users().print(map(row, found))
    number = len(options.usernames)
    what = "this user" if number == 1 else f"these {number} users"
    confirm(f"Delete {what} of {service.name}, with all sessions? This cannot be undone.", options)
    return for_each(service, options, "deleted", lambda name: service.manage("delete", username=name))


def outdated(service: Service, options: Options) -> int:
    """Counts the hashes of another form than new ones.

    A hash from another system, or with other parameters, is replaced when its user
    signs in.

    example: users.py outdated
    """
    users = found = 0
    for page in pages(service, action="count_outdated_hashes"):
        users, found = users + page["users"], found + page["outdated"]
        progress.show(f"{users} users read")
    text = f"{found} of {users} users have a hash of another form than new ones"
    return finish({"users": users, "outdated": found}, text, options)


def flags(options: Options) -> Json:
    """The flags that are given."""
    names = ("activated", "must_change_password")
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def print_users(service: Service, options: Options, limit: int | None = None, **fields: str) -> int:
    """Prints users page by page, and returns how many there are."""
    table, count = table_of_users(), 0
    for number, page in enumerate(pages(service, action="list", **fields), 1):
        users = page["users"][: limit and limit - count]
        count += len(users)
        if options.json:
            for user in users:
                emit(user)
        else:
            table.print(map(row, users))
        if limit and count >= limit:
            break
        progress.show(f"{number * PAGE} users read, {count} found")
    return count


def confirm_all(question: str, options: Options) -> None:
    """Checks that there are either usernames or --all, and asks before something is done to all users."""
    if bool(options.usernames) == options.all:
        raise MisuseError("either usernames or --all is needed")
    if options.all:
        confirm(question, options)


def for_each(service: Service, options: Options, done: str, act: Callable[[str], Json]) -> int:
    """Does the same for every named user, or for all users, and tells which of them failed."""
    usernames: Iterable[str] = options.usernames
    if options.all:
        usernames = (user["username"] for page in pages(service, action="list") for user in page["users"])
    count = status = in_a_row = 0
    for username, outcome in in_parallel(act, usernames, options.parallel):
        try:
            outcome.result()
        except ProblemError as error:
            if options.all and error.code == "unknown_username":
                continue  # deleted or renamed in the meantime
            tell(error, options, username)
            status = max(status, error.status)
            in_a_row = in_a_row + 1 if isinstance(error, UnreachableError) else 0
            if in_a_row == FAILURES_IN_A_ROW:
                raise UnreachableError(f"{in_a_row} calls in a row failed: the rest was not tried") from error
            continue
        count, in_a_row = count + 1, 0
        if options.json:
            emit({"username": username, "ok": True})
        elif not options.all:
            say(f"{visible(username)}: {done}")
        progress.show(f"{count} users")
    if options.all and not options.json:
        say(f"{count} {'user' if count == 1 else 'users'}: {done}")
    return status


# ---- Import and export


def import_users(service: Service, options: Options) -> int:
    """Creates the users of a file.

    The file is CSV (*.csv), or has a JSON object in each line. After an
    interruption, the same command continues. FILE.failed.jsonl lists the users
    that were not imported, with the reason.

    example: users.py import users.csv
    example: users.py import --without-passwords users.jsonl
    """
    path: Path = options.file
    rows = dict(enumerate(read(path), 1))
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    failures = Path(f"{path}.failed.jsonl")
    with exclusive(Path(f"{path}.progress")) as journal:
        begun, *done = entries(journal) or [None]
        if begun not in (None, f"{content} {service.name}"):
            raise MisuseError(f"{journal.name} is of another import: it had other content, or went elsewhere")
        left = sorted(set(rows) - {number for batch in done for number in batch["numbers"]})
        # After a line break, so that a line that was cut short spoils no other.
        journal.write("\n" if begun else json.dumps(f"{content} {service.name}") + "\n")
        batches = ({n: rows[n] for n in left[at : at + BATCH]} for at in range(0, len(left), BATCH))

        def work(batch: dict[int, Any]) -> Json:
            return import_batch(service, batch, content, options)

        for _, ended in in_parallel(work, batches, options.parallel):
            done.append(ended.result())
            journal.write(json.dumps(done[-1]) + "\n")
            journal.flush()
            progress.show(f"{sum(len(batch['numbers']) for batch in done)} of {len(rows)} users")
        failed = {int(number): reason for batch in done for number, reason in batch["failed"].items()}
        with open(failures, "w", opener=private) as file:
            for number, reason in sorted(failed.items()):
                user = rows[number] if isinstance(rows[number], dict) else {}
                user = {"user_id": default_id(content, number), **user, "number": number, "reason": reason}
                file.write(json.dumps(user) + "\n")
        if not failed:
            failures.unlink()
        os.unlink(journal.name)
    existed = sum(batch["existed"] for batch in done)
    imported = len(rows) - existed - len(failed)
    counts = {"imported": imported, "existed": existed, "failed": len(failed)}
    finish(counts, f"{imported} imported, {existed} were there, {len(failed)} failed", options)
    if failed:
        raise RefusedError(f"{failures} lists those that failed, with the reason", "import_failed")
    return 0


def import_batch(service: Service, rows: dict[int, Any], content: str, options: Options) -> Json:
    users, failed, existed = {}, {}, 0
    for number, row in rows.items():
        try:
            users[number] = prepare(row, default_id(content, number), options)
        except ValueError as error:
            failed[number] = "not UTF-8" if isinstance(error, UnicodeError) else str(error)
    refused = service.manage("import", users=list(users.values()))["failed"] if users else []
    in_order = iter(users.items())
    for failure in refused:
        number, user = next(item for item in in_order if item[1].get("username") == failure["username"])
        if failure["error_code"] == "user_exists" and is_there(service, user):
            existed += 1
            continue
        errors = [text for texts in failure.get("errors", {}).values() for text in texts]
        failed[number] = " ".join([failure["error_code"], *errors])
    return {"numbers": list(rows), "existed": existed, "failed": failed}


def is_there(service: Service, user: Json) -> bool:
    """Returns whether an earlier run created this very user."""
    try:
        found = service.manage("get", username=user["username"])["user"]
    except RefusedError:
        return False
    return bool(found["user_id"] == user["user_id"])


def entries(journal: TextIO) -> list[Any]:
    found = []
    journal.seek(0)
    for line in journal:
        try:
            found.append(json.loads(line))
        except ValueError:  # cut short when the import was broken off
            continue
    return found


def export_users(service: Service, options: Options) -> int:
    """Writes all users to a file, with their password hashes.

    The file has a JSON object in each line, which can be imported again. Only its
    owner can read it. The command needs the right to invoke export_users. After an
    interruption, the same command continues.

    example: users.py export users.jsonl
    """
    path: Path = options.file
    # The first one is filled; the second one says how much of that counts, and where to go on.
    part, state = Path(f"{path}.part"), Path(f"{path}.progress")
    with exclusive(part) as file:
        if path.exists():
            raise MisuseError(f"{path} exists: export to another file, or move it away")
        begun, cursor, size, count = [service.name, None, 0, 0]
        if state.exists():
            begun, cursor, size, count = json.loads(state.read_text())
        if begun != service.name:
            raise MisuseError(f"{state} is of an export from elsewhere")
        file.truncate(size)
        for page in pages(service, "export_users", cursor=cursor):
            file.writelines(json.dumps(user) + "\n" for user in page["users"])
            file.flush()
            count += len(page["users"])
            if "cursor" in page:
                replacement = Path(f"{state}.new")
                size = part.stat().st_size
                replacement.write_text(json.dumps([service.name, page["cursor"], size, count]))
                replacement.replace(state)
            progress.show(f"{count} users")
        state.unlink(missing_ok=True)
        part.rename(path)
    return finish({"exported": count}, f"{count} exported", options)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[TextIO]:
    """Opens a file that only its owner can read, to be appended to by one process at a time."""
    with open(path, "a+", encoding="utf-8", opener=private) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MisuseError(f"{path} is in use: the same command is running already") from error
        if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            yield file
            return
    # The process that had it until now has removed it.
    with exclusive(path) as file:
        yield file


def private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


# ---- Reading users

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
            raise MisuseError(
                f"{path}: its first line must name the columns: username and any of {', '.join(FIELDS)}"
            )
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
    """An id that follows from the file, so that a user who has it already was created by an earlier run."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{content} {number}"))


def prepare(row: Any, user_id: str, options: Options) -> Json:
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


# ---- Hashes of other systems

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


# ---- The command line


def firebase_hash_config(path: str) -> dict[str, str]:
    found = dict(re.findall(r"(\w+)[\"']?\s*[:=]\s*[\"']?([\w+/=-]+)", Path(path).read_text()))
    needed = ("base64_signer_key", "base64_salt_separator", "rounds", "mem_cost")
    if missing := [name for name in needed if name not in found]:
        raise argparse.ArgumentTypeError(f"{path} lacks {', '.join(missing)}")
    return found


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return int(text)


def local_url(text: str) -> str:
    if not text.startswith("http://"):
        raise argparse.ArgumentTypeError(f"{text} does not begin with http://")
    return text.rstrip("/")


def add_common(parser: argparse.ArgumentParser, default: Any) -> None:
    """Adds the options that may stand before the name of a command and after it."""
    add = parser.add_argument_group("where, and how to answer").add_argument
    local = f"the local stack; by default at AWS_ENDPOINT_URL, or at {LOCAL}"
    add("--stack", metavar="NAME", default=default, help="the stack; by default that of POSTERN_STACK")
    add("--region", default=default, help="its region, in place of the AWS CLI's")
    add("--profile", default=default, help="the profile of the AWS CLI")
    add("--local", metavar="URL", type=local_url, default=default, help=local)
    add("--json", action="store_true", default=default or False, help="answer in JSON, an object a line")


def parser_of_all() -> argparse.ArgumentParser:
    raw, optional = argparse.RawDescriptionHelpFormatter, argparse.BooleanOptionalAction
    parser = argparse.ArgumentParser("users.py", description=__doc__, epilog=STATUSES, formatter_class=raw)
    add_common(parser, None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(run: Callable[[Service, Options], int], usernames: str = "") -> Add:
        """Adds a command with the name and the documentation of a function, and returns the method that adds its
        arguments. `usernames` is the number of users that it takes, as argparse writes it."""
        name = run.__name__.removesuffix("_users").replace("_", "-")
        text = inspect.getdoc(run) or ""
        about = text.partition("\n")[0]
        added = commands.add_parser(name, help=about, description=text, formatter_class=raw)
        added.set_defaults(run=run, command=name, all=False, parallel=4)
        if usernames in ("*", "+"):
            added.add_argument("usernames", metavar="USERNAME", nargs=usernames)
        elif usernames:
            added.add_argument("username", metavar="USERNAME")
        add_common(added, argparse.SUPPRESS)
        return added.add_argument

    def add_flags(add: Add) -> None:
        add("--activated", action=optional, help="the user may sign in, or may not")
        add("--must-change-password", action=optional, help="the next sign-in demands a new password, or not")

    def add_parallel(add: Add, calls: int) -> None:
        about = "calls at a time (default: %(default)s)"
        add("--parallel", metavar="N", type=positive, default=calls, help=about)

    def add_all(add: Add) -> None:
        add("--all", action="store_true", help="all users, after a question")
        add("--yes", action="store_true", help="do not ask")
        add_parallel(add, 10)

    add = command(create, "1")
    add("--email", metavar="ADDRESS", action="append", help="may be given up to 10 times")
    add("--password", action="store_true", help="ask for a password, or read it from standard input")
    add("--user-id", metavar="ID", help="the id in tokens; by default a random one")
    add("--locale", metavar="TAG", help="the language of mails, such as de-AT")
    add_flags(add)

    add = command(get)
    add("username", metavar="USERNAME", nargs="?")
    add("--id", metavar="ID", help="the user id, which tokens and logs have, in place of the name")

    add = command(find)
    add("address", metavar="ADDRESS")

    add = command(list_users)
    add("--limit", metavar="N", type=positive, help="at most so many")

    add = command(update, "1")
    add("--email", metavar="ADDRESS", action="append", help="the new addresses, each with its own --email")
    add("--no-email", dest="email", action="store_const", const=[], help="no addresses")
    add("--locale", metavar="TAG", help="the language of mails, such as de-AT")
    add("--no-locale", dest="locale", action="store_const", const="", help="the language of the deployment")
    add_flags(add)

    add = command(rename, "1")
    add("new_username", metavar="NEW_USERNAME")

    add = command(set_password, "*")
    add("--must-change-password", action="store_true", help="the next sign-in demands a new password")
    add("--random", action="store_true", help="a random password, for any number of users")
    add_all(add)

    command(unlock, "+")

    add = command(revoke, "*")
    add_all(add)

    add = command(delete, "+")
    add("--yes", action="store_true", help="do not ask")

    add = command(import_users)
    resets = "accept users without a hash or a password: they set one by forgotPassword"
    firebase = "hash_config of a Firebase project, as its console shows it"
    add("file", metavar="FILE", type=Path)
    add_parallel(add, 4)
    add("--without-passwords", action="store_true", help=resets)
    add("--firebase-hash-config", metavar="FILE", dest="firebase", type=firebase_hash_config, help=firebase)

    add = command(export_users)
    add("file", metavar="FILE", type=Path)

    command(outdated)
    return parser


def parse(arguments: list[str]) -> Options:
    # Otherwise `--local` would take the name of the command as its URL.
    for number, (argument, following) in enumerate(zip(arguments, [*arguments[1:], ""])):
        if argument == "--local" and not following.startswith(("http://", "https://")):
            arguments[number] = f"--local={os.environ.get('AWS_ENDPOINT_URL') or LOCAL}"
        if argument == "--":
            break
    parser = parser_of_all()
    options = parser.parse_args(arguments)
    if options.local and options.stack:
        parser.error("--stack and --local exclude each other")
    if not options.local:
        options.stack = options.stack or os.environ.get("POSTERN_STACK")
        if not options.stack:
            parser.error("name the stack with --stack (or the variable POSTERN_STACK), or use --local")
    return options


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    # JSON is UTF-8, and a terminal that cannot show a character shows its number.
    sys.stdout.reconfigure(encoding="utf-8" if options.json else None, errors="backslashreplace")
    continues = options.command in ("import", "export")
    try:
        status: int = options.run(Service(options), options)
        progress.clear()
        sys.stdout.flush()
    except ProblemError as error:
        if continues and isinstance(error, UnreachableError):
            error = UnreachableError(f"{error}; {GOES_ON}", error.code)
        tell(error, options)
        status = error.status
    except BrokenPipeError:  # of `users.py list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except (OSError, UnicodeError, csv.Error) as error:
        tell(MisuseError(str(error)), options)
        status = MisuseError.status
    except KeyboardInterrupt:
        progress.clear()
        print("users.py: interrupted", *([GOES_ON] if continues else []), sep=": ", file=sys.stderr)
        sys.stdout.flush()
        os._exit(130)  # without waiting for the calls under way
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
