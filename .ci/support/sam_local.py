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

# What each event is answered: the status, and something that the body says. Functions without a route have no status.
ANSWERS = {
    "change_my_password/change_with_header": (200, "Password changed"),
    "change_my_password/change_with_two_tokens": (200, "Password changed"),
    "change_my_password/change_without_token": (401, "token_not_provided"),
    "change_my_password/check_old_password": (200, "Password correct"),
    "change_my_password/check_wrong_password": (400, "password_incorrect"),
    "change_password/bearer": (200, "New password is set"),
    "change_password/bearer_colon": (200, "New password is set"),
    "change_password/bearer_null": (401, "Unauthorized"),
    "change_password/nothing_provided": (422, "There are validation errors found"),
    "change_password_after_signin/stay_logged_in": (200, "session_token"),
    "change_password_after_signin/trailing_comma": (400, "malformed_json"),
    "change_password_after_signin/without_session": (200, "token"),
    "change_password_after_signin/wrong_password": (400, "username_or_password_incorrect"),
    "export_users/first_page": (None, "password_hash"),
    "forgot_password_check_code/integer_code": (200, "code_correct"),
    "forgot_password_check_code/string_code": (200, "code_correct"),
    "forgot_password_check_code/wrong_code": (400, "code_incorrect"),
    "forgot_password_reset_password/right_code": (200, "Changed password"),
    "forgot_password_reset_password/wrong_code": (400, "code_incorrect"),
    "forgot_password_send_email/known_username": (200, "Sent"),
    "forgot_password_send_email/unknown_username": (404, "unknown_username"),
    "manage_users/count_outdated_hashes": (None, '"outdated"'),
    "manage_users/create": (None, '"ok": true'),
    "manage_users/create_with_bcrypt_hash": (None, '"ok": true'),
    "manage_users/create_with_times": (None, '"created_at": "2020-06-11T17:48:13.000000Z"'),
    "manage_users/create_without_password": (None, '"ok": true'),
    "manage_users/delete": (None, '"ok": true'),
    "manage_users/get": (None, '"ok": true'),
    "manage_users/get_by_id": (None, '"ok": true'),
    "manage_users/import": (None, '"created": 2'),
    "manage_users/list": (None, '"users"'),
    "manage_users/list_by_address": (None, '"users"'),
    "manage_users/rename": (None, "-maier"),
    "manage_users/revoke_sessions": (None, '"ok": true'),
    "manage_users/set_password": (None, '"must_change_password": true'),
    "manage_users/unlock": (None, '"ok": true'),
    "manage_users/update": (None, '"activated": false'),
    "manage_users/update_without_locale": (None, '"ok": true'),
    "rotate_jwt_secret/1_create_secret": (None, "null"),
    "rotate_jwt_secret/2_set_secret": (None, "null"),
    "rotate_jwt_secret/3_test_secret": (None, "null"),
    "rotate_jwt_secret/4_finish_secret": (None, "null"),
    "session_signin/good_token": (202, "Session token is good"),
    "session_signin/unknown_token": (400, "session_token_incorrect"),
    "sessions/delete": (200, "Successfully deleted session"),
    "sessions/list_with_header": (200, "last_used"),
    "sessions/list_with_query": (200, "last_used"),
    "sessions/list_without_token": (401, "token_not_provided"),
    "sessions/log_out": (200, "Successfully logged out"),
    "signin/base64_body": (200, "token"),
    "signin/malformed_json": (400, "malformed_json"),
    "signin/stay_logged_in": (200, "session_token"),
    "signin/without_session": (200, "token"),
    "signin/wrong_password": (400, "username_or_password_incorrect"),
}


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
    if function in ("change_my_password", "change_password", "session_signin", "sessions"):
        signin = {"username": username, "password": PASSWORD, "stay_logged_in": True}
        signed_in = call(f"{LOCAL}/api/auth/signin", signin)
        bearer = {"Authorization": f"Bearer {signed_in['token']}"}
        session = call(f"{LOCAL}/api/v1/user/myself/session", **bearer)["sessions"][0]
        event = re.sub(r"\b1837402653\b", str(session["id"]), event)
        event = re.sub(r"\b2XRq\w{60}\b", signed_in["session_token"], event)
        event = re.sub(r"\beyJ[\w.-]+", signed_in["token"], event)
    if function in ("forgot_password_check_code", "forgot_password_reset_password"):
        code = request_code(LOCAL, username)
        event = event.replace("482901", str(int(code)) if case == "integer_code" else code)
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
        expected, says = ANSWERS[f"{function}/{file.stem}"]
        status = answer.get("statusCode") if isinstance(answer, dict) else None
        body = json.dumps(answer) if status is None else answer["body"]
        print(f"{function}/{file.stem}: {status or 'ok'}, {time.monotonic() - start:.1f} s")
        if status != expected or says not in body:
            sys.exit(f"expected {expected} {says}, got {process.stdout}\n{process.stderr}")


def call_start_api() -> None:
    """Signs in, lists sessions, resets the password, and asks as a browser does."""
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

    asks = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST"}
    preflight = urllib.request.Request(f"{START_API}/api/auth/signin", headers=asks, method="OPTIONS")
    with urllib.request.urlopen(preflight, timeout=30) as response:
        assert response.headers["Access-Control-Allow-Origin"] == "*", response.headers


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
