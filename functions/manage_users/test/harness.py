"""Helpers of the tests of users.py, which run against a stack, or an imitation of it for what a stack does not do.

API_URL and AWS_ENDPOINT_URL say where the stack is, as for the tests in Rust: `cargo run --bin local` by default.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import select
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.error
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import users

API = os.environ.get("API_URL", "http://127.0.0.1:3000")
AWS = os.environ.get("AWS_ENDPOINT_URL", users.LOCAL)
PASSWORD = "Password1234!"
# The AWS CLI has to work without a configuration of this machine.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "operator",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_REGION": "eu-central-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


def post(url: str, body: Any) -> tuple[int, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def manage(action: str, **fields: Any) -> Any:
    url = f"{AWS}/2015-03-31/functions/manage_users/invocations"
    return post(url, {"action": action, **fields})[1]


def signin(username: str, password: str = PASSWORD, **fields: Any) -> tuple[int, Any]:
    return post(f"{API}/api/auth/signin", {"username": username, "password": password, **fields})


def unique() -> str:
    return f"users.{uuid.uuid4().hex}"


UNAVAILABLE = {"ok": False, "error_code": "service_unavailable", "msg": "Service unavailable"}


class Scripted:
    """An imitation of Lambda that gives prepared answers one after the other, then fails, and keeps its payloads."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.calls = list(answers), []
        self.called, self.pause = threading.Event(), threading.Event()
        self.pause.set()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:
                self.calls.append(json.loads(handler.rfile.read(int(handler.headers["Content-Length"]))))
                self.called.set()
                self.pause.wait(30)
                answer = self.answers.pop(0) if self.answers else UNAVAILABLE
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                handler.send_response(200)
                if isinstance(answer, dict) and "errorMessage" in answer:
                    handler.send_header("X-Amz-Function-Error", "Unhandled")
                handler.send_header("Content-Length", str(len(body)))
                handler.end_headers()
                handler.wfile.write(body)

            def log_message(handler, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Outcome(NamedTuple):
    """The end of a command."""

    returncode: Any
    stdout: str
    stderr: str


class Case(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def scripted(self, *answers: Any) -> Scripted:
        service = Scripted(*answers)
        self.addCleanup(service.stop)
        return service

    def users(self, *arguments: str, standard_input: str = "", **environment: str) -> Outcome:
        """Runs users.py in this process, which is faster, on the local stack unless the arguments name another one."""
        target = [] if {"--local", "--stack"} & set(arguments) else ["--local", AWS]
        streams = [io.TextIOWrapper(io.BytesIO(text)) for text in (standard_input.encode(), b"", b"")]
        names = dict(zip(("sys.stdin", "sys.stdout", "sys.stderr"), streams))
        with contextlib.ExitStack() as patches:
            patches.enter_context(mock.patch.dict(os.environ, {**CREDENTIALS, **environment}))
            for name, stream in names.items():
                patches.enter_context(mock.patch(name, stream))
            try:
                status = users.main([*target, *arguments])
            except SystemExit as usage:
                status = usage.code
        texts = []
        for stream in streams[1:]:
            stream.flush()
            texts.append(stream.buffer.getvalue().decode())
        return Outcome(status, *texts)

    def process(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs users.py in a process of its own."""
        command = [sys.executable, users.__file__, *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    def answer(self, *arguments: str, standard_input: str = "") -> Any:
        """Runs a command that succeeds, and returns its JSON."""
        outcome = self.users("--json", *arguments, standard_input=standard_input)
        self.assertEqual((outcome.returncode, outcome.stderr), (0, ""))
        return json.loads(outcome.stdout)

    def on_terminal(self, *arguments: str, replies: tuple[tuple[str, str], ...] = ()) -> tuple[int, str]:
        """Runs users.py on a terminal of 80 columns, and replies to its questions."""
        terminal, other_end = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, users.__file__, "--local", AWS, *arguments],
            stdin=other_end,
            stdout=other_end,
            stderr=other_end,
            start_new_session=True,
            env={**os.environ, "COLUMNS": "80"},
        )
        os.close(other_end)
        shown, open_replies = b"", list(replies)
        while select.select([terminal], [], [], 60)[0]:
            try:
                shown += os.read(terminal, 4096)
            except OSError:  # of Linux, at the end
                break
            if open_replies and open_replies[0][0].encode() in shown:
                os.write(terminal, open_replies.pop(0)[1].encode() + b"\n")
        os.close(terminal)
        self.assertEqual(open_replies, [], shown)
        return process.wait(), shown.decode()

    def create(self, **fields: Any) -> str:
        username = unique()
        created = manage("create", username=username, password=PASSWORD, activated=True, **fields)
        self.assertTrue(created["ok"], created)
        return username

    def refused(self, outcome: Any, status: int, message: str) -> None:
        """Checks that a command failed with one plain line."""
        self.assertEqual(outcome.returncode, status, outcome.stdout + outcome.stderr)
        self.assertIn(message, outcome.stderr)
        self.assertEqual(len(outcome.stderr.splitlines()), 1, outcome.stderr)
