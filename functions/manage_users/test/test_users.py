"""Tests of the commands of users.py."""

from __future__ import annotations

import json
import os
import shlex
import uuid
from unittest import mock

import users
from harness import API, AWS, PASSWORD, Case, manage, post, signin, unique

COMMANDS = (
    *("create", "get", "find", "list", "update", "rename", "set-password", "unlock", "revoke", "delete"),
    *("import", "export", "outdated"),
)


class Commands(Case):
    def test_create_makes_a_user_without_a_password(self) -> None:
        username = unique()
        arguments = ("--email", f"{username}@example.com", "--locale", "de-AT", "--activated")
        created = self.answer("create", username, *arguments)
        self.assertEqual(created["email_addresses"], [f"{username}@example.com"])
        self.assertEqual((created["locale"], created["activated"]), ("de-AT", True))
        self.assertEqual(created, manage("get", username=username)["user"])
        self.assertEqual(signin(username)[0], 400)

    def test_create_reads_a_password_from_standard_input(self) -> None:
        username, user_id = unique(), uuid.uuid4().hex
        arguments = ("--password", "--activated", "--user-id", user_id)
        created = self.answer("create", username, *arguments, standard_input=f"{PASSWORD}\n")
        self.assertEqual(created["user_id"], user_id)
        self.assertEqual(signin(username)[0], 200)

    def test_get_shows_a_user_to_people_and_to_scripts(self) -> None:
        username = self.create(email_addresses=["a@example.com", "b@example.com"])
        shown = self.users("get", username).stdout.splitlines()
        self.assertEqual(shown[0], f"username              {username}")
        self.assertIn("e-mail addresses      a@example.com, b@example.com", shown)
        self.assertIn("last sign-in          never", shown)
        expected = manage("get", username=username)["user"]
        self.assertEqual(self.answer("get", username), expected)
        self.assertEqual(self.answer("get", "--id", expected["user_id"]), expected)

    def test_names_of_every_kind_work(self) -> None:
        for name in ('J\u00fcrgen "O\'Neil"', "\u5f20\u4e09 $(id) `id`", "-n", "a\\b;*"):
            with self.subTest(name):
                username = f"{name} {unique()}"
                self.assertEqual(self.answer("create", "--", username)["username"], username)
                self.assertIn(username, self.users("get", "--", username).stdout)
                self.assertIn(f"{username}: deleted", self.users("delete", "--yes", "--", username).stdout)

    def test_a_name_that_is_not_utf_8_is_refused(self) -> None:
        outcome = self.process("--local", AWS, "get", "\udcff")
        self.refused(outcome, 1, "username")

    def test_update_changes_only_the_given_fields(self) -> None:
        username = self.create(email_addresses=["a@example.com"], locale="de")
        changed = self.answer("update", username, "--no-activated", "--must-change-password")
        self.assertEqual((changed["activated"], changed["must_change_password"]), (False, True))
        self.assertEqual((changed["email_addresses"], changed["locale"]), (["a@example.com"], "de"))
        changed = self.answer("update", username, "--email", "b@example.com", "--email", "c@example.com")
        self.assertEqual(changed["email_addresses"], ["b@example.com", "c@example.com"])
        self.assertFalse(changed["activated"])
        changed = self.answer("update", username, "--no-email", "--no-locale", "--activated")
        self.assertEqual((changed["email_addresses"], changed["activated"]), ([], True))
        self.assertNotIn("locale", changed)

    def test_rename_keeps_the_id(self) -> None:
        username, new_username = self.create(), unique()
        user_id = self.answer("get", username)["user_id"]
        renamed = self.answer("rename", username, new_username)
        self.assertEqual((renamed["username"], renamed["user_id"]), (new_username, user_id))
        self.assertEqual(signin(new_username)[0], 200)

    def test_find_lists_the_users_with_an_address(self) -> None:
        address = f"{unique()}@example.com"
        usernames = {self.create(email_addresses=[address]) for _ in range(2)}
        found = self.users("find", address.upper(), "--json").stdout.splitlines()
        self.assertEqual({json.loads(line)["username"] for line in found}, usernames)
        shown = self.users("find", address).stdout
        self.assertTrue(shown.startswith("USERNAME"))
        self.assertTrue(all(username in shown for username in usernames))
        self.refused(self.users("find", f"x{address}"), 1, "no user has this e-mail address")

    def test_set_password_reads_standard_input(self) -> None:
        username = self.create()
        outcome = self.users("set-password", username, standard_input="NewPassword1234!\r\n")
        self.assertEqual(outcome.stdout, f"{username}: password set\n")
        self.assertEqual(signin(username, "NewPassword1234!")[0], 200)
        outcome = self.users("set-password", username, "--must-change-password", standard_input=PASSWORD)
        self.assertEqual(outcome.returncode, 0)
        self.assertEqual(signin(username)[1]["error_code"], "change_password")

    def test_set_password_asks_twice_and_shows_nothing(self) -> None:
        username = self.create()
        new, again = "New password:", "The same again:"
        replies = ((new, "NewPassword1234!"), (again, "NewPassword1234!"))
        status, shown = self.on_terminal("set-password", username, replies=replies)
        self.assertEqual(status, 0, shown)
        self.assertNotIn("NewPassword1234!", shown)
        self.assertEqual(signin(username, "NewPassword1234!")[0], 200)
        replies = ((new, "NewPassword1234!"), (again, "newPassword1234!"))
        status, shown = self.on_terminal("set-password", username, replies=replies)
        self.assertEqual(status, 2)
        self.assertIn("the two passwords are not the same", shown)
        status, shown = self.on_terminal("set-password", username, replies=((new, "\x04"),))
        self.assertEqual(status, 2)
        self.assertIn("no password was given", shown)

    def test_a_password_is_one_line(self) -> None:
        for given in ("", "\n", "two\nlines\n"):
            outcome = self.users("set-password", unique(), standard_input=given)
            self.refused(outcome, 2, "a password is one line, which is not empty")

    def test_a_bad_password_is_refused_with_the_reason(self) -> None:
        outcome = self.users("set-password", self.create(), standard_input="short\n")
        self.refused(outcome, 1, "must be at least")

    def test_random_passwords_replace_those_of_several_users(self) -> None:
        usernames = [self.create() for _ in range(2)]
        outcome = self.users("set-password", "--random", *usernames)
        expected = {f"{username}: password set" for username in usernames}
        self.assertEqual(set(outcome.stdout.splitlines()), expected)
        self.assertEqual([signin(username)[0] for username in usernames], [400, 400])

    def test_unlock_ends_a_wait(self) -> None:
        username = self.create()
        for _ in range(10):
            signin(username, "WrongPassword1234!")
        self.assertEqual(signin(username)[1]["error_code"], "rate_limit_exceeded")
        self.assertEqual(self.users("unlock", username).stdout, f"{username}: unlocked\n")
        self.assertEqual(signin(username)[0], 200)

    def test_revoke_ends_the_sessions_of_the_named_users_or_of_all(self) -> None:
        usernames = [self.create() for _ in range(3)]
        sessions = [signin(username, stay_logged_in=True)[1]["session_token"] for username in usernames]

        def alive() -> list[bool]:
            url = f"{API}/api/auth/IamLoggedIn"
            return [post(url, {"session_token": token})[0] == 202 for token in sessions]

        self.assertEqual(self.users("revoke", *usernames[:2]).returncode, 0)
        self.assertEqual(alive(), [False, False, True])
        status, shown = self.on_terminal("revoke", "--all", replies=(("[y/N]", "n"),))
        self.assertEqual(status, 1, shown)
        self.assertIn(f"all users of the local stack at {AWS}", shown)
        self.assertEqual(alive(), [False, False, True])
        status, shown = self.on_terminal("revoke", "--all", replies=(("[y/N]", "y"),))
        self.assertEqual(status, 0, shown)
        self.assertIn("users: sessions and tokens ended", shown)
        self.assertEqual(alive(), [False, False, False])

    def test_delete_shows_the_users_and_asks(self) -> None:
        usernames = [self.create(email_addresses=["a@example.com"]) for _ in range(2)]
        status, shown = self.on_terminal("delete", *usernames, replies=(("[y/N]", ""),))
        self.assertEqual(status, 1)
        self.assertIn("Delete these 2 users of the local stack", shown)
        self.assertIn("active", shown)
        self.refused(self.users("delete", *usernames), 2, "--yes")
        self.assertEqual(self.answer("get", usernames[0])["username"], usernames[0])
        status, shown = self.on_terminal("delete", *usernames, replies=(("[y/N]", "y"),))
        self.assertEqual(status, 0, shown)
        for username in usernames:
            self.refused(self.users("get", username), 1, "Unknown username")

    def test_one_unknown_user_does_not_keep_others_from_a_command(self) -> None:
        username, unknown = self.create(), unique()
        outcome = self.users("unlock", unknown, username)
        self.refused(outcome, 1, f"{unknown}: Unknown username")
        self.assertEqual(outcome.stdout, f"{username}: unlocked\n")
        outcome = self.users("unlock", unknown, username, "--json")
        self.assertEqual(json.loads(outcome.stdout), {"username": username, "ok": True})
        expected = {"username": unknown, "error_code": "unknown_username", "msg": "Unknown username"}
        self.assertEqual(json.loads(outcome.stderr), expected)

    def test_outdated_counts_hashes(self) -> None:
        before = self.answer("outdated")
        stored = "$2b$04$/prl90asGvDdO0LP0gq7GeCZEwCdvlU1U/yM4TVV5Erp22k5bJA.S"
        self.assertTrue(manage("create", username=unique(), password_hash=stored)["ok"])
        self.create()
        after = self.answer("outdated")
        self.assertEqual(after["users"] - before["users"], 2)
        self.assertEqual(after["outdated"] - before["outdated"], 1)
        self.assertIn(f"of {after['users']} users", self.users("outdated").stdout)

    def test_a_refusal_names_every_field(self) -> None:
        arguments = ("create", unique(), "--locale", "de_AT", "--email", "a@localhost")
        outcome = self.users(*arguments)
        self.refused(outcome, 1, "The locale must be a language tag such as de-AT.")
        self.assertIn("has no dot in its domain", outcome.stderr)
        refusal = json.loads(self.users(*arguments, "--json").stderr)
        self.assertEqual(refusal["error_code"], "validation_failed")
        self.assertEqual(set(refusal["errors"]), {"locale", "email_addresses"})

    def test_wrong_usage_is_told_apart_from_a_refusal(self) -> None:
        for arguments, message in (
            (["get"], "either a username or --id"),
            (["update", "a"], "nothing to change"),
            (["set-password", "a", "b"], "one username"),
            (["set-password", "--random"], "either usernames or --all"),
            (["revoke", "a", "--all"], "either usernames or --all"),
            (["revoke", "--all"], "--yes"),
            (["import", "/nonexistent/users.csv"], "No such file"),
            (["list", "--limit", "0"], "not a number above 0"),
            (["list", "--stack", "postern", "--local"], "exclude each other"),
            (["list", "--local", "https://example.com"], "http://"),
            (["frobnicate"], "invalid choice"),
        ):
            with self.subTest(arguments):
                outcome = self.users(*arguments)
                self.assertEqual(outcome.returncode, 2, outcome.stdout + outcome.stderr)
                self.assertIn(message, outcome.stderr)
        with mock.patch.dict(os.environ, {"POSTERN_STACK": ""}), mock.patch("sys.stderr"):
            self.assertRaises(SystemExit, users.parse, ["list"])

    def test_each_command_has_a_help_with_examples_that_parse(self) -> None:
        for command in COMMANDS:
            with self.subTest(command):
                shown = self.users(command, "--help").stdout
                examples = [
                    line[len("example: users.py ") :] for line in shown.splitlines() if "example: " in line
                ]
                self.assertTrue(examples)
                for example in examples:
                    arguments = shlex.split(example.partition(" | ")[0])
                    self.assertEqual(users.parse([*arguments, "--local"]).command, command)
        self.assertIn("exit status:", self.users("--help").stdout)
