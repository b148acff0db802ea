"""Invokes every event by `sam local`, and calls `sam local start-api`. Both use the data of `local`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

LOCAL = "http://127.0.0.1:3000"
# The host, as containers see it.
AWS = "http://172.17.0.1:4566"
START_API = "http://127.0.0.1:3001"
START_LAMBDA = "http://127.0.0.1:3002"
OPTIONS = ["--parameter-overrides", "Architecture=x86_64", "--skip-pull-image"]
PASSWORD = "Password1234!"

# The answer to each event: its status, and a part of its body. Functions without a route answer with no status.
ANSWERS = json.loads(Path("events/answers.json").read_text(encoding="utf-8"))
FUNCTIONS = sorted({name.split("/")[0] for name in ANSWERS})
TOKEN = re.compile(r"\beyJ[\w-]+\.eyJ[\w-]+\.[\w-]+")
SESSION_TOKEN = re.compile(r"\b2XRq\w{60}\b")
SESSION_ID = re.compile(r"\b1837402653\b")
CODE = "482901"


def call(url: str, payload: Any = None, **headers: str) -> Any:
    """The body of an answer of 200, to a POST if there is a payload."""
    body = None if payload is None else json.dumps(payload).encode()
    request = urllib.request.Request(url, body, headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status == 200, (url, response.status)
        return json.load(response)


def events(function: str) -> list[Path]:
    return sorted(Path("events", function).glob("*.json"))


def logical_id(function: str) -> str:
    return function.title().replace("_", "")


@contextmanager
def sam_local(*arguments: str) -> Iterator[None]:
    with subprocess.Popen(
        ["sam", "local", *arguments, *OPTIONS], stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            # The rest is the log of the functions.
            log = next(line for line in server.stderr if "Running on http" in line)
            print(f"{arguments[0]}: {log.strip()}")
            Thread(target=server.stderr.read, daemon=True).start()
            yield
        finally:
            server.terminate()


def create_user(username: str, **fields: Any) -> None:
    user = {"username": username, "password": PASSWORD, "email_addresses": [f"{username}@example.com"]}
    payload = {"action": "create", "activated": True} | user | fields
    created = call(f"{AWS}/2015-03-31/functions/manage_users/invocations", payload)
    assert created["ok"], created


def request_code(api: str, username: str) -> str:
    call(f"{api}/api/auth/forgotPassword/sendEmail", {"username": username})
    mail = call(f"{AWS}/_aws/ses?email={username}@example.com")["messages"][-1]
    return re.search(r"\b\d{6}\b", mail["Body"]["text_part"])[0]


def with_own(function: str, case: str, event: str) -> str:
    """The event with a user, a token, a session and a code that there are, in place of the example's."""
    username = f"{function}.{case}"
    if not case.startswith(("create", "import")):
        user_id = f"{username}-33"
        create_user(
            username, must_change_password=function == "change_password_after_signin", user_id=user_id
        )
    event = event.replace("st.huber", username)
    if any(example.search(event) for example in (TOKEN, SESSION_TOKEN, SESSION_ID)):
        signin = {"username": username, "password": PASSWORD, "stay_logged_in": True}
        signed_in = call(f"{LOCAL}/api/auth/signin", signin)
        bearer = {"Authorization": f"Bearer {signed_in['token']}"}
        session = call(f"{LOCAL}/api/v1/user/myself/session", **bearer)["sessions"][0]
        event = SESSION_ID.sub(str(session["id"]), event)
        event = SESSION_TOKEN.sub(signed_in["session_token"], event)
        event = TOKEN.sub(signed_in["token"], event)
    # A wrong code is refused as such only if there is a right one.
    if r"\"code\"" in event:
        code = request_code(LOCAL, username)
        event = event.replace(CODE, str(int(code)) if case == "integer_code" else code)
    return event


def check(function: str, case: str, answer: Any, log: str) -> None:
    expected = ANSWERS[f"{function}/{case}"]
    status = answer.get("statusCode") if isinstance(answer, dict) else None
    # A redirect has no body.
    body = json.dumps(answer) if status is None else answer.get("body") or json.dumps(answer["headers"])
    print(f"{function}/{case}: {status or 'ok'}")
    if status != expected["status"] or expected["says"] not in body:
        sys.exit(f"expected {expected}, got {answer}\n{log}")


def invoke(function: str, address: str) -> None:
    """Invokes a function with its first event, as a developer does.

    The address is the function's alone, lest two containers take the same port.
    """
    command = ["sam", "local", "invoke", logical_id(function), "--event", "-", *OPTIONS]
    command += ["--container-host", address, "--container-host-interface", address]
    file = events(function)[0]
    process = subprocess.run(
        command,
        check=False,
        input=with_own(function, file.stem, file.read_text()),
        capture_output=True,
        text=True,
    )
    check(function, file.stem, json.loads(process.stdout or '""'), process.stderr)


def invoke_with_others() -> None:
    """Invokes every function with its other events, in a container for each function, as `sam local invoke` would."""
    with sam_local("start-lambda"):
        for function in FUNCTIONS:
            for file in events(function)[1:]:
                event = json.loads(with_own(function, file.stem, file.read_text()))
                url = f"{START_LAMBDA}/2015-03-31/functions/{logical_id(function)}/invocations"
                check(function, file.stem, call(url, event), "")


def call_start_api() -> None:
    """Signs in, lists sessions, and resets the password."""
    username = "start.api"
    create_user(username)
    signin = {"username": username, "password": PASSWORD, "stay_logged_in": True}
    signed_in = call(f"{START_API}/api/auth/signin", signin)
    bearer = {"Authorization": f"Bearer {signed_in['token']}"}
    assert len(call(f"{START_API}/api/v1/user/myself/session", **bearer)["sessions"]) == 1
    code = request_code(START_API, username)
    reset = {"username": username, "code": code, "new_password": "NewPassword1234!"}
    call(f"{START_API}/api/auth/forgotPassword/resetPassword", reset)
    call(f"{START_API}/api/auth/signin", signin | {"password": "NewPassword1234!"})
    try:
        call(f"{START_API}/api/v1/user/myself/session", **bearer)
        sys.exit("the reset did not revoke the token")
    except urllib.error.HTTPError as error:
        assert error.code == 401, error


def main() -> None:
    names = {f"{function}/{file.stem}" for function in FUNCTIONS for file in events(function)}
    assert names == {f"{file.parent.name}/{file.stem}" for file in Path("events").glob("*/*.json")}
    assert names == set(ANSWERS), names ^ set(ANSWERS)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(invoke, FUNCTIONS, [f"127.0.0.{number}" for number, _ in enumerate(FUNCTIONS, 2)]))
    invoke_with_others()
    with sam_local("start-api"):
        call_start_api()


if __name__ == "__main__":
    main()
