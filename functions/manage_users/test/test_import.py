"""Tests of the import and the export of users.py: hashes of other systems are converted, and sign in."""

from __future__ import annotations

import csv
import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness import API, PASSWORD, UNAVAILABLE, Case, manage, post, unique

# Each is a hash of PASSWORD, made by the library that the comment names, with as few rounds as it allows.
HASHES = {
    # Django 5.2, django.contrib.auth.hashers
    "Django, PBKDF2": "pbkdf2_sha256$1000$saltsaltsalt$QnpOeNhO/6uFUmc9Ip1MNIP41qdXXPPgp42KYmq1V5E=",
    "Django, scrypt": "scrypt$16$saltsaltsalt$8$5$JsAyH8PEwmFcP/UG1JbaxMdN5M+iRp8ZOCaG4u5a6ggAv1c8eZFzHRykj1ZJ1K7U"
    "EkDesbE+z0w08/fVHVf+5w==",
    "Django, Argon2": "argon2$argon2id$v=19$m=1024,t=1,p=2$c2FsdHNhbHRzYWx0$aMV9EFvMQWU3rkZuWzGBtUo/i0B9UG9VB0Iowgm77Fk",
    "Django, bcrypt": "bcrypt$$2b$04$eu04K1oooHOn4Y5/7NX9Uucc4xMIdQPZz9G02KE7TlWR7W8.3VzMS",
    # Werkzeug 3.1, generate_password_hash
    "Werkzeug, scrypt": "scrypt:1024:8:1$3zp4IcFxKi5oOW0k$d5f51e65902d315170fb93eb27bd9263d8e881e808cbac032b83e9e17a2a3a9a"
    "c74bbda6c3ed0e7e0b970421e916dfdd5a6a6cfe2e26026b166101940b122f0d",
    "Werkzeug, SHA-256": "pbkdf2:sha256:1000$1TrlLiSthyAN1VFG$cc157977c3a67163bb3c91b96a8c0e45a92e06af046e70b00644c8012e70150d",
    "Werkzeug, SHA-512": "pbkdf2:sha512:1000$pfKrL4e1F9Wg1mF0$05d26a8fa7a23556e0d7701de4471470e025e358314fdd0ce5b3fc668c71"
    "a22752f070153c26582d9fd09f1795d0508efb66d4eb6aea72dbeb847eab7c78fdef",
    # passlib 1.7.4, passlib.hash
    "passlib, SHA-256": "$pbkdf2-sha256$1000$G4PQGmOMsXbuPeccg3CudQ$dHRZ.Nert4cO7MBjS4J7f/vZ093D8ZT4UKqQY39a1NM",
    "passlib, SHA-512": "$pbkdf2-sha512$1000$l/IeYyzlvFeKMSZk7H3vvQ$ExcGoublgsOdbkQOQj4o7vuzg9ByksFaCWM1xlmYsKtK2iv3z3Q865G"
    "RZZV5Yi6dNpTmOa/aJegc3H2IRyQFQw",
    "passlib, scrypt": "$scrypt$ln=4,r=8,p=1$zfm/t5YSgtA6B8DYG0NorQ$OaDxJ5Us0ufrU/BnRL3lmUDARQgSD4s+dyasLJn5gsw",
    "passlib, Argon2": "$argon2id$v=19$m=1024,t=1,p=4$qZUyZmyNUap1bk3J2fufUw$rSNG8RWsdL9ER8ujIMn18nAfexBAK6muZiMa0Pj+zOs",
    "passlib, bcrypt": "$2b$04$/prl90asGvDdO0LP0gq7GeCZEwCdvlU1U/yM4TVV5Erp22k5bJA.S",
    "passlib, LDAP SHA-256": "{PBKDF2-SHA256}1000$mXMOwXiPUSql1Nr7HyMk5A$rcx4JQx0t4E3rMgChMRoj8cnOhw.bGiVEv.wyKzkvEM",
    "passlib, LDAP SHA-512": "{PBKDF2-SHA512}1000$/B8jBKBUai3FuNeacy5FCA$wbFlnSkMc3UOMYBaHax5BCgTGLsvdp1SdLt2dw14J0yK2iwSqp"
    "uolyKj.AkuVmO5foDsep4dfsvUOPczfPD5Eg",
    "passlib, LDAP bcrypt": "{CRYPT}$2b$04$lDC1VoB9bGlEGLtMvoToAulQtE592eI2gqT3MeCuczoWYKnN/Q1qe",
    # The C library, by argon2-cffi 25.1, with the prefixes that OpenLDAP, Dovecot and Spring Security put before it.
    "Argon2 without a version": "$argon2i$m=1024,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$ilQnMxWvCI1iEl4imD/vPxsU7Cqd+vS7TtUa77Aj+fY",
    "Spring, Argon2": "{argon2@SpringSecurity_v5_8}$argon2id$v=19$m=16384,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$57U8xSot0owyKle7BPcm"
    "h5ULwBX4lHiTRkV0MtOCrNI",
    "Spring, Argon2 before 5.8": "{argon2}$argon2id$v=19$m=1024,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$wScarWYyO7EIsnms8efe3TfTJPw79PBq"
    "tFG7tRfNaGs",
    "OpenLDAP, Argon2": "{ARGON2}$argon2i$v=19$m=1024,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$/6V1Q8WPzDs5TPHJscvXb/sfq9jtQozDNizXcK8YqBU",
    "Dovecot, Argon2id": "{ARGON2ID}$argon2id$v=19$m=1024,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$wScarWYyO7EIsnms8efe3TfTJPw79PBqtFG7tRfNaGs",
    "Dovecot, Argon2i": "{ARGON2I}$argon2i$v=19$m=1024,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$/6V1Q8WPzDs5TPHJscvXb/sfq9jtQozDNizXcK8YqBU",
    # The bcrypt of passlib above, as Dovecot and PHP write it.
    "Dovecot, bcrypt": "{BLF-CRYPT}$2y$04$/prl90asGvDdO0LP0gq7GeCZEwCdvlU1U/yM4TVV5Erp22k5bJA.S",
    "crypt, bcrypt": "{CRYPT}$2y$04$/prl90asGvDdO0LP0gq7GeCZEwCdvlU1U/yM4TVV5Erp22k5bJA.S",
    "Spring, bcrypt": "{bcrypt}$2a$04$/prl90asGvDdO0LP0gq7GeCZEwCdvlU1U/yM4TVV5Erp22k5bJA.S",
    # Python's hashlib, put together as the encoders of Spring Security 5.8 do: no library of a Python or Node registry has them.
    "Spring, PBKDF2": "{pbkdf2@SpringSecurity_v5_8}73616c7473616c7473616c7473616c746f39762359bc54f215da6dab4c372b0078a72ceb8592df24"
    "be2d3a9fa473642c",
    "Spring, scrypt": "{scrypt@SpringSecurity_v5_8}$100801$c2FsdHNhbHRzYWx0c2FsdA==$boTLGNGRUEz9AVKaJPWjL0QsdzmfjkA5bABkGBXYjmA=",
    # npm's aspnetcore-identity-password-hasher 1.0.1
    "ASP.NET Identity, SHA-256": "AQAAAAEAACcQAAAAECybGabTqaqDAe343cqRDScjmj9D4E1R7lttD37Rq8ra4O7veMMHHivfntTLGWO4fw==",
    # hashlib; ASP.NET Core 8 writes this one.
    "ASP.NET Identity, SHA-512": "AQAAAAIAAAPoAAAAEHNhbHRzYWx0c2FsdHNhbHSs3RG+w8cutf5KbpJFctXy56gA8xM6t7j3pfJSRmS7DQ==",
    # npm's better-auth, hashPassword of better-auth/crypto
    "better-auth": "0a94fe290b724b87d513a591820d7111:43e101955544befcd50c8dcbe66de399c40dd36783900afa16ad3cec6dd95cf40be54d6ebb"
    "403cd93eeba7c08baa9f740019315d697613ff975b40b7050cd303",
    # hashlib and argon2-cffi, in the form of Keycloak 26's export of a realm
    "Keycloak, SHA-256": {
        "credentialData": '{"hashIterations":1000,"algorithm":"pbkdf2-sha256","additionalParameters":{}}',
        "secretData": '{"value":"1i9i+8JStzMY8RxTtvKpOO3qJzpCjlfSaPhy1R7i1UfB3wPgLkC09NN2OXvMdaslpilyzPTEDeknrIbRzFy0ZQ==",'
        '"salt":"c2FsdHNhbHRzYWx0c2FsdA==","additionalParameters":{}}',
    },
    "Keycloak, SHA-512": {
        "credentialData": '{"hashIterations":1000,"algorithm":"pbkdf2-sha512","additionalParameters":{}}',
        "secretData": '{"value":"rN0RvsPHLrX+Sm6SRXLV8ueoAPMTOre496XyUkZkuw2i95IjajYDzc8ke101vIs7DE78VoSEQfkNLrhK/FNecQ==",'
        '"salt":"c2FsdHNhbHRzYWx0c2FsdA==","additionalParameters":{}}',
    },
    "Keycloak, Argon2": {
        "credentialData": '{"hashIterations":5,"algorithm":"argon2","additionalParameters":{"hashLength":["32"],"memory":["7168"],'
        '"type":["id"],"version":["1.3"],"parallelism":["1"]}}',
        "secretData": '{"value":"qPzzFtmTiwdOViN1upK69VdoRI0trowEazo/mAjL9vw=","salt":"c2FsdHNhbHRzYWx0c2FsdA==",'
        '"additionalParameters":{}}',
    },
    # npm's firebase-scrypt 2.2, with the signer key below
    "Firebase": {
        "passwordHash": "1xdXlTsHlj7fqBcd1g5nLbB7Ltq+JaSKakP2D+o9KWI28dypxeZ+7d3Azq9P6vPZqO29QJjQQCTp3OPNBWhJPA==",
        "salt": "c2FsdHNhbHQxMg==",
    },
}
# As Firebase's console shows it. The key is a sentence in Base64, and of no project.
FIREBASE = """hash_config {
  algorithm: SCRYPT,
  base64_signer_key: YW4gZXhhbXBsZSBvZiBhIHNpZ25lciBrZXk6IDY0IGJ5dGVzLCBhbmQgb2Ygbm8gcHJvamVjdCBhdCBhbGwuLg==,
  base64_salt_separator: Bw==,
  rounds: 8,
  mem_cost: 14,
}
"""
# Made by the same libraries.
REFUSED = {
    "bcrypt_sha256$$2b$04$jdPE4VIp5cC6kXYQJSrxLOT3wE1N9T6/zFaBMMSHawA0/SUPT1KWq": "bcrypt of a hash of the password",
    "$bcrypt-sha256$v=2,t=2b,r=4$jGCsnpvAnjo9WI8r2DkHPe$5kfSXPopi42wJfzdlxvE68KcK.qtrdq": "bcrypt of a hash of the password",
    "pbkdf2_sha1$1000$saltsaltsalt$V4AClow+JmqyKh4s6TJpfCYBS9A=": "SHA-1",
    "pbkdf2:sha1:1000$i10HYkrc9gpLEf8c$c5f051bdbffa8a2aed455dcda81629e86796fad5": "SHA-1",
    "AQAAAAAAAAPoAAAAEHNhbHRzYWx0c2FsdHNhbHQMLV7IyRfVORwWwkoQnOAZl7D49Y2aZoCMbB41OJ8BoA==": "SHA-1",
    "AQAAAAEAACcQ": "damaged",
    "$P$5qJeebaYdihIXQDY.Rf3J8QalWCttS/": "phpass",
    "$6$rounds=1000$xQKPpxRGjpW.0UsY$W4oGlpbAycMU2pMq.8.roTjUtXu5mNLZALU64hFnS4B85ZHG1odwp22UTqdCMOc91REleD5xKHoS3zOiVnbod/": "SHA-2",
    "md5$saltsaltsalt$48dff79363d6c29fc36787522c155fce": "no form",
    "scrypt$15$saltsaltsalt$8$5$JsAyH8PEwmFcP/UG1JbaxA==": "power of two",
    "{scrypt}$e0801$"
    + "c2FsdHNhbHRzYWx0c2Fs" * 4
    + "$boTLGNGRUEz9AVKaJPWjL0QsdzmfjkA5bABkGBXYjmA=": "a salt of 60 bytes",
    "pbkdf2_sha256$1000$saltsaltsalt$Qnp\u00e4": "ASCII",
    '{"passwordHash":"","salt":""}': "--firebase-hash-config",
    '{"credentialData":"{}"}': "incomplete or damaged",
}


class Import(Case):
    def import_rows(self, rows: list[dict[str, Any]], *options: str) -> dict[str, str]:
        """Imports rows and returns the reasons of those that failed, by username."""
        path = self.folder / "users.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        outcome = self.users("import", str(path), *options)
        failures = Path(f"{path}.failed.jsonl")
        failed = [json.loads(line) for line in failures.read_text().splitlines()] if failures.exists() else []
        self.assertEqual(outcome.returncode, 1 if failed else 0, outcome.stderr)
        self.assertIn(
            f"{len(rows) - len(failed)} imported, 0 were there, {len(failed)} failed", outcome.stdout
        )
        return {row["username"]: row["reason"] for row in failed}

    def assert_signs_in(self, username: str, form: str) -> None:
        for password, expected in ((PASSWORD[:-1], 400), (PASSWORD, 200)):
            status, answer = post(f"{API}/api/auth/signin", {"username": username, "password": password})
            self.assertEqual(status, expected, f"{form}: {answer}")

    def test_every_form_signs_in(self) -> None:
        config = self.folder / "firebase"
        config.write_text(FIREBASE)
        names = {form: unique() for form in HASHES}
        rows = [
            {"username": names[form], "password_hash": stored, "activated": True}
            for form, stored in HASHES.items()
        ]
        self.assertEqual(self.import_rows(rows, "--firebase-hash-config", str(config)), {})
        for form, username in names.items():
            with self.subTest(form):
                self.assert_signs_in(username, form)

    def test_a_hash_that_cannot_be_taken_is_refused_with_the_reason(self) -> None:
        rows = [{"username": unique(), "password_hash": stored} for stored in REFUSED]
        failed = self.import_rows(rows)
        self.assertEqual(len(failed), len(rows))
        for row in rows:
            with self.subTest(row["password_hash"]):
                self.assertIn(REFUSED[row["password_hash"]], failed[row["username"]])

    def test_the_reason_names_the_field(self) -> None:
        (reason,) = self.import_rows(
            [{"username": unique(), "password": PASSWORD, "locale": "de_AT"}]
        ).values()
        self.assertEqual(reason, "validation_failed The locale must be a language tag such as de-AT.")

    def test_blanks_and_trailing_separators_are_ignored(self) -> None:
        username = unique()
        path = self.folder / "users.csv"
        for header, row in (
            ("username,email_addresses,activated,", f'" {username}a ","a@example.com; b@example.com;",true,'),
            ("username;email_addresses;activated", f'{username}b\t;"a@example.com;b@example.com";true'),
            ("username;email_addresses;activated;", f" {username}c;a@example.com, b@example.com,;true;"),
        ):
            path.write_text(f"\ufeff{header}\r\n{row}\r\n", encoding="utf-8")
            outcome = self.users("import", str(path), "--without-passwords")
            self.assertEqual(outcome.returncode, 0, outcome.stdout + outcome.stderr)
        for name in "abc":
            found = manage("get", username=username + name)
            self.assertEqual(found["user"]["email_addresses"], ["a@example.com", "b@example.com"])
            self.assertTrue(found["user"]["activated"])

    def test_a_field_that_is_given_twice_is_refused(self) -> None:
        path = self.folder / "users.jsonl"
        path.write_text(f'{{"username":"{unique()}","activated":true,"activated":false}}\n')
        outcome = self.users("import", str(path), "--without-passwords")
        self.assertEqual(outcome.returncode, 1)
        self.assertIn("given twice", Path(f"{path}.failed.jsonl").read_text())
        (self.folder / "users.csv").write_text("username,locale,locale\na,de,en\n")
        self.assertIn("first line", self.users("import", str(self.folder / "users.csv")).stderr)

    def test_an_export_is_imported_again_with_all_its_times(self) -> None:
        username = unique()
        times = {
            "created_at": "2015-01-02T03:04:05.000006Z",
            "password_changed_at": "2016-01-02T03:04:05.000000Z",
            "last_signin_at": "2017-01-02T03:04:05.000000Z",
        }
        row = {"username": username, "password_hash": HASHES["passlib, bcrypt"], "activated": True, **times}
        self.assertEqual(self.import_rows([row]), {})
        exported = self.folder / "export.jsonl"
        outcome = self.users("export", str(exported))
        self.assertEqual(outcome.returncode, 0, outcome.stderr)
        (user,) = (
            user
            for user in map(json.loads, exported.read_text().splitlines())
            if user["username"] == username
        )
        self.assertEqual({name: user[name] for name in times}, times)

        self.assertTrue(manage("delete", username=username)["ok"])
        self.assertEqual(self.import_rows([user]), {})
        again = manage("get", username=username)["user"]
        self.assertEqual(
            {name: again[name] for name in (*times, "user_id")}, {**times, "user_id": user["user_id"]}
        )
        self.assert_signs_in(username, "exported")

    def test_more_users_than_a_page_are_imported_and_exported(self) -> None:
        # The check of the logs looks for such names.
        usernames = {f"ci.{number}.{uuid.uuid4().hex}" for number in range(250)}
        path = self.folder / "users.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["username", "password_hash", "email_addresses", "activated"])
            for username in usernames:
                rows.writerow([username, HASHES["passlib, bcrypt"], f"{username}@example.com", "true"])
        imported = self.users("import", str(path))
        self.assertEqual(imported.returncode, 0, imported.stdout + imported.stderr)

        exported = self.folder / "export.jsonl"
        outcome = self.users("export", str(exported))
        self.assertEqual(outcome.returncode, 0, outcome.stderr)
        lines = exported.read_text(encoding="utf-8").splitlines()
        names = [json.loads(line)["username"] for line in lines]
        self.assertEqual(len(names), len(set(names)))
        self.assertLessEqual(usernames, set(names))

    def test_an_interrupted_import_continues(self) -> None:
        path = self.folder / "users.jsonl"
        path.write_text("".join(f'{{"username":"{number}"}}\n' for number in range(250)))
        service = self.scripted({"ok": True, "created": 100, "failed": []}, UNAVAILABLE)
        arguments = ("import", "--without-passwords", "--parallel", "1", str(path), "--local", service.url)
        outcome = self.process(*arguments)
        self.refused(outcome, 3, "Service unavailable; the same command continues from here")

        service.calls.clear()
        service.answers[:] = [{"ok": True, "created": 0, "failed": []}] * 2
        outcome = self.users(*arguments)
        self.assertEqual(outcome.stdout, "250 imported, 0 were there, 0 failed\n")
        sent = [user["username"] for call in service.calls for user in call["users"]]
        self.assertEqual(sent, [str(number) for number in range(100, 250)])
        self.assertEqual(list(self.folder.iterdir()), [path])

    def test_an_import_that_went_elsewhere_is_not_continued(self) -> None:
        path = self.folder / "users.jsonl"
        path.write_text('{"username":"a"}\n')
        arguments = ("import", "--without-passwords", str(path), "--local")
        self.assertEqual(self.users(*arguments, self.scripted(UNAVAILABLE).url).returncode, 3)
        outcome = self.users(*arguments, self.scripted().url)
        self.assertEqual(outcome.returncode, 2)
        self.assertIn("of another import", outcome.stderr)

    def test_an_interrupted_export_continues(self) -> None:
        path = self.folder / "export.jsonl"
        service = self.scripted({"ok": True, "users": [{"username": "a"}], "cursor": "A"}, UNAVAILABLE)
        arguments = ("export", str(path), "--local", service.url)
        self.assertEqual(self.users(*arguments).returncode, 3)
        with Path(f"{path}.part").open("a") as part:
            part.write('{"username":"b"')  # of a page that was cut short
        service.answers[:] = [{"ok": True, "users": [{"username": "b"}]}]
        outcome = self.users(*arguments, "--json")
        self.assertEqual(json.loads(outcome.stdout), {"exported": 2})
        self.assertEqual(path.read_text(), '{"username": "a"}\n{"username": "b"}\n')
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertEqual([call["cursor"] for call in service.calls], [None, "A", "A"])
        self.assertEqual(list(self.folder.iterdir()), [path])

    def test_an_export_replaces_no_file(self) -> None:
        path = self.folder / "export.jsonl"
        path.write_text("kept")
        outcome = self.users("export", str(path))
        self.assertEqual(outcome.returncode, 2)
        self.assertEqual(path.read_text(), "kept")

    def test_one_file_is_imported_or_exported_once_at_a_time(self) -> None:
        path = self.folder / "users.jsonl"
        path.write_text('{"username":"a"}\n')
        for command, answer in (
            (("import", "--without-passwords"), {"ok": True, "created": 1, "failed": []}),
            (("export",), {"ok": True, "users": []}),
        ):
            with self.subTest(command[0]):
                file = path if command[0] == "import" else self.folder / "export.jsonl"
                service = self.scripted(answer)
                service.pause = threading.Event()
                arguments = (*command, str(file), "--local", service.url)
                with ThreadPoolExecutor() as pool:
                    first = pool.submit(self.process, *arguments)
                    self.assertTrue(service.called.wait(30))
                    self.refused(self.users(*arguments), 2, "is running already")
                    service.pause.set()
                self.assertEqual(first.result().returncode, 0, first.result().stderr)
