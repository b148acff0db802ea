"""Tests of how users.py reaches a stack, and what it makes of answers that the stack of the tests never gives."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import users
from harness import API, AWS, UNAVAILABLE, Case, manage, unique


def user(username: str, **fields: Any) -> dict[str, Any]:
    """A user as the service shows it."""
    return {
        "username": username,
        "user_id": "33",
        "email_addresses": ["a@example.com"],
        "activated": True,
        "must_change_password": False,
        "created_at": "2026-11-21T13:38:13.000000Z",
        "password_changed_at": None,
        "last_signin_at": "2026-11-22T09:00:00.000000Z",
        **fields,
    }


class Answers(Case):
    """What a stack of the tests never answers."""

    def test_a_long_list_is_read_page_by_page(self) -> None:
        first = [user(f"user {number}") for number in range(1000)]
        service = self.scripted(
            {"ok": True, "users": first, "cursor": "A"}, {"ok": True, "users": [user("last")]}
        )
        lines = self.users("list", "--local", service.url).stdout.splitlines()
        self.assertEqual(len(lines), 1002)
        self.assertEqual(
            lines[-1].split(), ["last", "33", "active", "2026-11-22", "09:00", "UTC", "a@example.com"]
        )
        self.assertEqual([call.get("cursor") for call in service.calls], [None, "A"])

        service.answers[:] = [{"ok": True, "users": first, "cursor": "A"}]
        limited = self.users("list", "--limit", "3", "--json", "--local", service.url)
        self.assertEqual([json.loads(line) for line in limited.stdout.splitlines()], first[:3])

    def test_a_table_fits_into_the_terminal(self) -> None:
        users_shown = [user("\u5f20" * 60), user("b" * 100), user("short")]
        service = self.scripted(*[{"ok": True, "users": users_shown}] * 2)
        _, shown = self.on_terminal("list", "--local", service.url)
        rows = [line for line in shown.replace("\x1b[K", "").replace("\r", "\n").splitlines() if line]
        rows = [row for row in rows if "users read" not in row]
        self.assertEqual(len(rows), 4, shown)
        self.assertTrue(all(users.width(row) <= 80 for row in rows), shown)
        self.assertIn("b" * 100, self.users("list", "--local", service.url).stdout)

    def test_a_name_cannot_steer_the_terminal(self) -> None:
        service = self.scripted(*[{"ok": True, "users": [user("\x1b]0;title\x07\u202e")]}] * 2)
        shown = self.users("list", "--local", service.url).stdout
        self.assertIn("\\x1b]0;title\\x07\\u202e", shown)
        self.assertNotIn("\x1b", shown + self.users("list", "--local", service.url, "--json").stdout)

    def test_a_reader_may_stop(self) -> None:
        service = self.scripted({"ok": True, "users": [user("a" * 190)] * 1000})
        command = f"{sys.executable} {users.__file__} list --local {service.url} | head -n 1"
        outcome = subprocess.run(command, check=False, shell=True, capture_output=True, text=True)
        self.assertEqual(outcome.stderr, "")

    def test_every_failure_of_the_service_ends_with_status_3(self) -> None:
        for answer, message in (
            (UNAVAILABLE, "Service unavailable"),
            ({"ok": False, "error_code": "internal_error", "msg": "Internal error"}, "Internal error"),
            ({"errorType": "Sandbox.Timedout", "errorMessage": "Task timed out"}, "Task timed out"),
            ([], "failed"),
            ({}, "unknown form"),
            (b"<html>", "does not answer as Lambda does"),
        ):
            with self.subTest(answer):
                self.refused(self.users("get", "a", "--local", self.scripted(answer).url), 3, message)
        self.refused(self.users("get", "a", "--local", "http://127.0.0.1:1"), 3, "Connection refused")
        self.refused(self.users("get", "a", "--local", f"{API}/wrong"), 3, "answered 404")

    def test_a_service_that_is_down_stops_work_on_all_users(self) -> None:
        service = self.scripted({"ok": True, "users": [user(str(number)) for number in range(100)]})
        outcome = self.users("revoke", "--all", "--yes", "--parallel", "2", "--local", service.url)
        self.assertEqual(outcome.returncode, 3)
        self.assertIn("10 calls in a row failed", outcome.stderr)
        self.assertLess(len(service.calls), 30)

    def test_users_who_are_deleted_meanwhile_do_not_fail_work_on_all(self) -> None:
        gone = {"ok": False, "error_code": "unknown_username", "msg": "Unknown username"}
        service = self.scripted({"ok": True, "users": [user("a"), user("b")]}, gone, {"ok": True})
        arguments = ("revoke", "--all", "--yes", "--parallel", "1", "--local", service.url)
        outcome = self.users(*arguments)
        self.assertEqual((outcome.returncode, outcome.stderr), (0, ""))
        self.assertEqual(outcome.stdout, "1 user: sessions and tokens ended\n")


class AwsCli(Case):
    """A stack by its name."""

    def fake(self, script: str) -> str:
        """Puts another `aws` before that of the tools, and returns the PATH with it."""
        (self.folder / "aws").write_text(f"#!/bin/sh\n{script}\n")
        (self.folder / "aws").chmod(0o700)
        return f"{self.folder}:{os.environ['PATH']}"

    def test_a_stack_is_called_through_the_aws_cli(self) -> None:
        username = self.create()
        arguments = ("--stack", "postern", "get", username, "--json")
        outcome = self.users(*arguments, AWS_ENDPOINT_URL=AWS)
        self.assertEqual((outcome.returncode, outcome.stderr), (0, ""))
        self.assertEqual(json.loads(outcome.stdout), manage("get", username=username)["user"])

        outcome = self.users("list", "--stack", "other", AWS_ENDPOINT_URL=AWS)
        self.refused(outcome, 3, "there is no function other-manage_users here")
        self.refused(
            self.users("get", unique(), "--stack", "postern", AWS_ENDPOINT_URL=AWS), 1, "Unknown username"
        )

    def test_a_password_is_sent_through_a_pipe_only(self) -> None:
        seen = self.folder / "seen"
        script = (
            f'env > {seen}; printf "%s\\n" "$@" >> {seen}; cat > {seen}.stdin; echo \'{{"ok":true}} {{}}\''
        )
        path, secret = self.fake(script), "Secret-Password-1234"
        given = ("set-password", "a", "--stack", "postern", "--region", "eu-west-1", "--profile", "operator")
        outcome = self.users(*given, standard_input=f"{secret}\n", PATH=path)
        self.assertEqual((outcome.returncode, outcome.stderr), (0, ""))
        self.assertIn(secret, Path(f"{seen}.stdin").read_text())
        self.assertNotIn(secret, seen.read_text())
        self.assertIn("--function-name\npostern-manage_users\n", seen.read_text())
        self.assertIn("--region\neu-west-1\n--profile\noperator\n", seen.read_text())

    def test_errors_of_the_aws_cli_are_one_plain_line(self) -> None:
        called = "when calling the Invoke operation"
        for error, message in (
            (
                "Unable to locate credentials. You can configure them by aws configure",
                "credentials are missing",
            ),
            ("The SSO session has expired. To refresh it run aws sso login", "credentials are missing"),
            (f"An error occurred (ExpiredTokenException) {called}: The token is expired", "have expired"),
            (
                f"An error occurred (UnrecognizedClientException) {called}: invalid",
                "AWS refuses the credentials",
            ),
            (f"An error occurred (AccessDeniedException) {called}: not authorized", "AccessDenied"),
            (f"An error occurred (TooManyRequestsException) {called}: Rate Exceeded", "throttles"),
            (
                f"An error occurred (ResourceNotFoundException) {called}: none\n\nDetails:\nType: User",
                "no function",
            ),
            ("You must specify a region.", "the region is missing"),
            ("The config profile (x) could not be found", "The config profile (x) could not be found"),
            ('Could not connect to the endpoint URL: "https://x"', "is there a network?"),
            ('Read timeout on endpoint URL: "https://x"', "did not answer in time"),
            ("", "`aws` failed"),
        ):
            with self.subTest(error):
                path = self.fake(f"cat > /dev/null; printf '\\n%s\\n' {shlex.quote(error)} >&2; exit 254")
                self.refused(self.users("list", "--stack", "postern", PATH=path), 3, message)
        path = self.fake(
            'cat > /dev/null; echo \'{"errorMessage":"it crashed"}\' \'{"FunctionError":"Unhandled"}\''
        )
        self.refused(self.users("list", "--stack", "postern", PATH=path), 3, "it crashed")
        path = self.fake("cat > /dev/null; echo surprise")
        self.refused(self.users("list", "--stack", "postern", PATH=path), 3, "unknown form")

    def test_a_machine_without_the_aws_cli_is_told(self) -> None:
        outcome = self.users("list", "--stack", "postern", PATH="/nonexistent")
        self.refused(outcome, 3, "the AWS CLI is not installed")
