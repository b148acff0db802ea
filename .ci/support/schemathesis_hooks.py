"""What schemathesis cannot know of the API: users who exist, what is right for them, and stricter checks.

Takes API_URL and AWS_ENDPOINT_URL, as the black-box tests do.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
import re
import uuid
from pathlib import Path
from typing import Any

import jsonschema_rs
import requests
import schemathesis
import yaml
from schemathesis import AuthContext, Case, CheckContext, HookContext, Response

API = os.environ["API_URL"]
AWS = os.environ["AWS_ENDPOINT_URL"]
DOCUMENT = yaml.safe_load(Path("openapi.yaml").read_text(encoding="utf-8"))
PASSWORD = "Password1234!"
HEADERS_OF_HTTP = {"connection", "content-length", "content-type", "date"}
# These take a failure, an overload, another setting, an hour of waiting, or a page that was loaded before.
STATUSES_NOT_PROVOKED = {"304", "403", "413", "429", "500", "503"}
ERRORS_NOT_PROVOKED = {"token_expired", "no_public_keys"}
# What a request with a username meets: a user in some state, one who is limited, or no name at all.
KINDS = {
    "Sign-in": ["ready", "due", "not activated", "limited", "blank"],
    "Forgot password": ["ready", "without address", "limited", "blank"],
}
STATES: dict[str, dict[str, Any]] = {
    "due": {"must_change_password": True},
    "not activated": {"activated": False},
    "without address": {"email_addresses": []},
}
CHANCE = random.Random(1)  # the same in every run
HTTP = requests.Session()


# Users, and what is right for them


def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
    return HTTP.post(API + path, json=body, timeout=10).json()


def new_user(**fields: Any) -> str:
    username = f"st.huber.{uuid.uuid4().hex}"
    create = {
        "action": "create",
        "username": username,
        "password": PASSWORD,
        "email_addresses": [f"{username}@example.com"],
        "activated": True,
        **fields,
    }
    answer = HTTP.post(f"{AWS}/2015-03-31/functions/manage_users/invocations", json=create, timeout=10).json()
    assert answer["ok"], answer
    return username


def code_for(username: str) -> str | None:
    post("/api/auth/forgotPassword/sendEmail", {"username": username})
    inbox = HTTP.get(f"{AWS}/_aws/ses", params={"email": f"{username}@example.com"}, timeout=10).json()
    codes = [re.findall(r"\b[0-9]{6}\b", mail["Body"]["text_part"]) for mail in inbox["messages"]]
    return codes[-1][0] if codes else None


def use_up_limit(path: str, username: str) -> None:
    post("/api/auth/forgotPassword/sendEmail", {"username": username})
    wrong = {"username": username, "password": "x", "old_password": "x", "new_password": "y", "code": "0"}
    for _ in range(12):
        post(path, wrong)


def tokens() -> dict[str, str]:
    username = new_user()
    signin = {"username": username, "password": PASSWORD, "stay_logged_in": True}
    return {"username": username, **post("/api/auth/signin", signin)}


def put_right(case: Case, right: dict[str, Any]) -> None:
    """Mostly puts what is right in place of what is well-formed. What is not well-formed stays."""
    if isinstance(case.body, dict):
        fields = body_schema(case)["properties"]
        case.body |= {
            name: value
            for name, value in right.items()
            if name in case.body and fits(case.body[name], fields[name]) and CHANCE.random() < 0.9
        }


@schemathesis.hook
def before_call(_context: HookContext, case: Case, _kwargs: dict[str, Any]) -> None:
    fields = body_schema(case)["properties"]
    if "username" in fields:
        kind = CHANCE.choice(KINDS[case.operation.definition.raw["tags"][0]])
        username = new_user(**STATES.get(kind, {}))
        right = {"username": username, "password": PASSWORD, "old_password": PASSWORD}
        if kind == "blank":
            right["username"] = " "
        elif kind == "limited":
            use_up_limit(case.operation.path, username)
        elif "code" in fields and CHANCE.random() < 0.8:
            code = code_for(username)
            if code and CHANCE.random() < 0.7:
                right["code"] = code
        put_right(case, right)
    elif case.operation.path == "/api/auth/IamLoggedIn":
        put_right(case, {"session_token": tokens()["session_token"]})
    elif case.operation.path == "/assets/{name}" and CHANCE.random() < 0.5:
        case.path_parameters["name"] = CHANCE.choice(
            re.findall(r"/assets/([^\"]+)", HTTP.get(API, timeout=10).text)
        )


def session_id_of(session_token: str) -> int:
    digest = hashlib.sha256(session_token.encode()).digest()
    return int.from_bytes(digest[:4], "big") % 0x7FFFFFFF + 1


@schemathesis.auth(refresh_interval=None).apply_to(tag=["Sessions", "Profile"])
class SignedIn:
    def get(self, case: Case, _context: AuthContext) -> dict[str, str] | None:
        # Few bodies are malformed, and only a good token shows how they are answered.
        if body_schema(case)["properties"] and not isinstance(case.body, dict) and CHANCE.random() < 0.8:
            return tokens()
        return CHANCE.choice([tokens, tokens, lambda: {**tokens(), "token": "x.y.z"}, lambda: None])()

    def set(self, case: Case, data: dict[str, str], _context: AuthContext) -> None:
        if {"queryToken": []} in case.operation.definition.raw["security"] and CHANCE.random() < 0.5:
            case.query["token"] = data["token"]
        else:
            case.headers["Authorization"] = f"{CHANCE.choice(['Bearer', 'Bearer:'])} {data['token']}"
        session_id = DOCUMENT["components"]["schemas"]["SessionId"]
        if fits(case.path_parameters.get("id"), session_id) and CHANCE.random() < 0.8:
            case.path_parameters["id"] = session_id_of(data["session_token"])
        if "changePassword" in case.operation.path and CHANCE.random() < 0.2:
            use_up_limit("/api/auth/signin", data["username"])
        right = {"session_token": data["session_token"], "password": PASSWORD, "old_password": PASSWORD}
        put_right(case, right)
        if isinstance(case.body, dict) and "new_password" in case.body:
            put_right(case, {"new_password_check": case.body["new_password"]})


# What the document says


def body_schema(case: Case) -> dict[str, Any]:
    body = case.operation.definition.raw.get("requestBody")
    return resolved(body["content"]["application/json"]["schema"]) if body else {"properties": {}}


def errors_of(documented: dict[str, Any]) -> dict[str, Any]:
    """The bodies of a documented error, by the names of its examples."""
    examples = resolved(documented)["content"]["application/json"].get("examples", {})
    return {name: resolved(example)["value"] for name, example in examples.items()}


def resolved(value: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in value:
        value = functools.reduce(dict.__getitem__, value["$ref"].removeprefix("#/").split("/"), DOCUMENT)
    return value


def fits(value: Any, schema: dict[str, Any]) -> bool:
    return validator(json.dumps(schema)).is_valid(value)


@functools.cache
def validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    # References lead to the document's own components.
    return jsonschema_rs.Draft202012Validator({**json.loads(schema), "components": DOCUMENT["components"]})


# What is checked beside what schemathesis checks


@schemathesis.check
def headers_as_documented(_context: CheckContext, response: Response, case: Case) -> None:
    """An answer has no header that the document does not have."""
    if documented := case.operation.definition.raw["responses"].get(str(response.status_code)):
        names = {name.lower() for name in resolved(documented)["headers"]}
        assert not (others := set(response.headers) - names - HEADERS_OF_HTTP), (
            f"not in the document: {others}"
        )


@schemathesis.check
def fields_as_documented(_context: CheckContext, response: Response, case: Case) -> None:
    """A 422 under /api/auth names exactly the fields that break what the document says of them."""
    schema = body_schema(case)
    if not schema["properties"] or case.operation.path.startswith("/api/v1/profile") or case.method != "POST":
        return
    answer = json.loads(response.content)
    if response.status_code in {401, 413} or answer.get("error_code") == "malformed_json":
        return
    # A number with a fraction is no integer here, even if that is zero.
    body = json.loads(response.request.body or b"", parse_float=lambda number: [number])
    broken = {
        name
        for name, field in schema["properties"].items()
        if (name in schema["required"] or body.get(name) is not None) and not fits(body.get(name), field)
    }
    # The document has no schema for the length of a normalised username, and for a new password that is the old one or
    # common.
    left_open = set()
    if not str(body.get("username")).isascii():
        left_open.add("username")
    is_common = answer.get("errors", {}).get("new_password") == ["The new password is too common."]
    if is_common or body.get("new_password") == body.get("old_password"):
        left_open.add("new_password")
    assert broken ^ set(answer.get("errors", {})) <= left_open, f"by the document: {broken or 'none'}"


@schemathesis.check
def errors_as_documented(_context: CheckContext, response: Response, case: Case) -> None:
    """An error has the message that the document has for its code."""
    documented = case.operation.definition.raw["responses"].get(str(response.status_code))
    # Coverage also tries methods that a path does not have, which API Gateway answers.
    if (
        not documented
        or response.status_code < 400
        or response.request.method != case.operation.method.upper()
    ):
        return
    answer = json.loads(response.content)
    errors = answer.get("errors")
    if errors is None:
        assert answer in errors_of(documented).values(), f"not in the document: {answer}"
    elif isinstance(errors, list):
        known = DOCUMENT["components"]["schemas"]["PasswordChangeError"]["examples"]
        # The minimum length in a message is the deployment's.
        numbered = [json.loads(re.sub(r"between \d+", "between 8", json.dumps(error))) for error in errors]
        assert all(error in known for error in numbered), f"not in the document: {errors}"


@schemathesis.check
class EveryDocumentedAnswer:
    """By the end, everything that the document says may be answered was answered, so that it was also checked."""

    def __init__(self) -> None:
        self.documented: set[tuple[str, str, str]] = set()
        self.seen: set[tuple[str, str, str]] = set()

    def after_response(self, _context: CheckContext, response: Response, case: Case) -> None:
        for status, documented in case.operation.definition.raw["responses"].items():
            if status in STATUSES_NOT_PROVOKED:
                continue
            errors = errors_of(documented) if status >= "400" else {}
            # A success has one kind of body, or none, and 422 has one.
            for name, body in (errors or {"": None}).items():
                if name not in ERRORS_NOT_PROVOKED:
                    self.documented.add((case.operation.label, status, name))
                if status == str(response.status_code) and (
                    body is None or body == json.loads(response.content)
                ):
                    self.seen.add((case.operation.label, status, name))

    def after_run(self, _context: CheckContext) -> None:
        print(f"{len(self.seen)} kinds of answers")
        assert not (missing := self.documented - self.seen), f"never answered: {sorted(missing)}"
