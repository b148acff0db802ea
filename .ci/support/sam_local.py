"""Invokes every event by `sam local invoke`, and calls `sam local start-api`. Both use the data of `local`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

LOCAL = "http://127.0.0.1:3000"
# The host, as containers see it.
AWS = "http://172.17.0.1:4566"
START_API = "http://127.0.0.1:3001"
OPTIONS = ["--parameter-overrides", "Architecture=x86_64", "--skip-pull-image"]
PASSWORD = "Password1234!"

# The answer to each event: its status, and a part of its body. Functions without a route answer with no status.
ANSWERS = json.loads(Path("events/answers.json").read_text(encoding="utf-8"))
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


def invoke_events_of(function: str, address: str) -> None:
    """Invokes them one after the other. The address is the function's alone, lest two containers take the same port."""
    logical_id = function.title().replace("_", "")
    command = ["sam", "local", "invoke", logical_id, "--event", "-", *OPTIONS]
    command += ["--container-host", address, "--container-host-interface", address]
    for file in sorted(Path("events", function).iterdir()):
        event = with_own(function, file.stem, file.read_text())
        start = time.monotonic()
        process = subprocess.run(command, check=False, input=event, capture_output=True, text=True)
        answer = json.loads(process.stdout or '""')
        expected = ANSWERS[f"{function}/{file.stem}"]
        status = answer.get("statusCode") if isinstance(answer, dict) else None
        # A redirect has no body.
        body = json.dumps(answer) if status is None else answer.get("body") or json.dumps(answer["headers"])
        print(f"{function}/{file.stem}: {status or 'ok'}, {time.monotonic() - start:.1f} s")
        if status != expected["status"] or expected["says"] not in body:
            sys.exit(f"expected {expected}, got {process.stdout}\n{process.stderr}")


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
    events = {f"{file.parent.name}/{file.stem}" for file in Path("events").glob("*/*.json")}
    assert events == set(ANSWERS), events ^ set(ANSWERS)
    # The function with the most events first.
    functions = sorted({name.split("/")[0] for name in events}, key=lambda name: name != "manage_users")
    with ThreadPoolExecutor(3) as pool:
        addresses = [f"127.0.0.{number}" for number, _ in enumerate(functions, 2)]
        list(pool.map(invoke_events_of, functions, addresses))

    with subprocess.Popen(
        ["sam", "local", "start-api", *OPTIONS], stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            log = next(line for line in server.stderr if "Running on http" in line)
            call_start_api()
            print(f"start-api: {log.strip()}")
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
