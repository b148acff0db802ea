"""Shows tokens of the running service to jose, aws-jwt-verify, PyJWT and the service itself: they accept those that it
issued, before, during and after rotations of the key, and refuse forged ones and those of revoked keys.

verifiers.py ALGORITHM, with API_URL, AWS_ENDPOINT_URL, and the JWT_AUDIENCE of the service, whose rotation is allowed
at any time and which caches no key.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

ALGORITHM = sys.argv[1]
API = os.environ["API_URL"]
AWS = os.environ["AWS_ENDPOINT_URL"]
AUDIENCE = os.environ["JWT_AUDIENCE"]
SECRET = "postern/jwt-secret"
# RFC 7518 §6.2.2 and §6.3.2.
PRIVATE_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}


def call(url: str, payload: Any = None, **headers: str) -> tuple[Any, Any]:
    """The body and the headers of an answer of 200, to a POST if there is a payload."""
    body = None if payload is None else json.dumps(payload).encode()
    request = urllib.request.Request(url, body, headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status == 200, (url, response.status)
        return json.load(response), response.headers


def sign_in() -> str:
    credentials = {"username": "st.huber", "password": "Password1234!"}
    return call(f"{API}/api/auth/signin", credentials)[0]["token"]


def secrets_manager(operation: str, **fields: str) -> Any:
    target = {"X-Amz-Target": f"secretsmanager.{operation}", "Content-Type": "application/x-amz-json-1.1"}
    return call(AWS, fields, **target)[0]


def rotate() -> None:
    secrets_manager("RotateSecret", SecretId=SECRET, ClientRequestToken=str(uuid4()))


def revoke_keys() -> None:
    step = {"Step": "revokeKeys", "SecretId": SECRET, "ClientRequestToken": str(uuid4())}
    call(f"{AWS}/2015-03-31/functions/rotate_jwt_secret/invocations", step)


def kid(token: str) -> str:
    return jwt.get_unverified_header(token)["kid"]


class Issuer:
    """The service, as a verifier finds it that knows nothing but the issuer of a token."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        metadata = self.read(f"{issuer}/.well-known/openid-configuration")
        assert metadata["issuer"] == issuer, metadata
        assert metadata["id_token_signing_alg_values_supported"] == [ALGORITHM], metadata
        self.key_set_url = metadata["jwks_uri"]

    def key_set(self) -> list[dict[str, str]]:
        return self.read(self.key_set_url)["keys"]

    def kids(self) -> list[str]:
        return [key["kid"] for key in self.key_set()]

    @staticmethod
    def read(url: str) -> Any:
        document, headers = call(url)
        assert headers["Content-Type"] == "application/json", headers
        assert headers["Cache-Control"] == "public, max-age=300", headers
        return document


class Node:
    """The process that runs the verifiers of Node.js."""

    def __init__(self, issuer: Issuer) -> None:
        script = Path(__file__).with_suffix(".mjs")
        command = ["node", script, ALGORITHM, issuer.issuer, AUDIENCE, issuer.key_set_url]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **request: Any) -> Any:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


class NodeVerifier:
    def __init__(self, name: str, node: Node) -> None:
        self.name, self.node, self.fetches = name, node, 0
        node.ask(new=name)

    def refusal(self, token: str) -> str | None:
        answer = self.node.ask(verify=token, by=self.name)
        self.fetches = answer["fetches"]
        return answer["refusal"]


class PyJwt(jwt.PyJWKClient):
    name = "PyJWT"

    def __init__(self, issuer: Issuer) -> None:
        super().__init__(issuer.key_set_url)
        self.issuer, self.fetches = issuer.issuer, 0

    def fetch_data(self) -> Any:
        self.fetches += 1
        return super().fetch_data()

    def refusal(self, token: str) -> str | None:
        try:
            key = self.get_signing_key_from_jwt(token)
            jwt.decode(token, key, algorithms=[ALGORITHM], issuer=self.issuer, audience=AUDIENCE)
        except jwt.PyJWTError as error:
            return type(error).__name__
        return None


class Postern:
    """The service itself, which fetches no key set."""

    name, fetches = "Postern", 0

    def refusal(self, token: str) -> str | None:
        try:
            call(f"{API}/api/v1/user/myself/session", Authorization=f"Bearer {token}")
        except urllib.error.HTTPError as error:
            assert error.code == 401, error
            return json.load(error)["error_code"]
        return None


class Verifiers:
    """All of them, without any key yet. Those of Node.js that were there before are gone."""

    def __init__(self, issuer: Issuer, node: Node) -> None:
        others = [NodeVerifier("jose", node), NodeVerifier("aws-jwt-verify", node), PyJwt(issuer)]
        self.others = others
        self.all = [*others, Postern()]

    def accept(self, what: str, *tokens: str) -> None:
        for verifier in self.all:
            for token in tokens:
                refusal = verifier.refusal(token)
                assert refusal is None, f"{verifier.name} refuses {what}: {refusal}"
        print(f"{ALGORITHM}: accepted: {what}")

    def refuse(self, what: str, token: str, *refusals: str) -> None:
        """For these reasons, in the order of the verifiers."""
        given = tuple(verifier.refusal(token) for verifier in self.all)
        assert given == refusals, f"{what}: {given}, not {refusals}"
        print(f"{ALGORITHM}: refused: {what}")

    def fetched_once(self) -> None:
        for verifier in self.others:
            assert verifier.fetches == 1, (verifier.name, verifier.fetches)


def encode(part: bytes | dict[str, Any]) -> str:
    part = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def check_key_set(issuer: Issuer, node: Node) -> None:
    for key in issuer.key_set():
        assert not PRIVATE_MEMBERS & set(key), key.keys()
        assert (key["alg"], key["use"]) == (ALGORITHM, "sig"), key
        assert node.ask(key=key) == {"type": "public", "thumbprint": key["kid"]}, key


def check_forgeries(issuer: Issuer, verifiers: Verifiers, token: str) -> None:
    header, claims = jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})
    pairs = json.loads(secrets_manager("GetSecretValue", SecretId=SECRET)["SecretString"])
    own = serialization.load_der_private_key(base64.b64decode(pairs["current"]), None)
    if ALGORITHM == "RS256":
        foreign = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    else:
        foreign = ec.generate_private_key(ec.SECP256R1())
    foreign_jwk = jwt.get_algorithm_by_name(ALGORITHM).to_jwk(foreign.public_key(), as_dict=True)

    def signed(key: Any = own, header: dict[str, Any] = header, **changes: Any) -> str:
        return jwt.encode(claims | changes, key, ALGORITHM, header | {"alg": ALGORITHM})

    def with_secret(secret: bytes) -> str:
        message = f"{encode(header | {'alg': 'HS256'})}.{token.split('.')[1]}"
        return f"{message}.{encode(hmac.digest(secret, message.encode(), hashlib.sha256))}"

    # Otherwise a forgery could be refused for the way in which it is made here.
    verifiers.accept("the same claims, signed again with the service's key", signed())

    claim = "ERR_JWT_CLAIM_VALIDATION_FAILED"
    refusals = (claim, "JwtInvalidAudienceError", "InvalidAudienceError", "token_incorrect")
    verifiers.refuse("another audience", signed(aud="others"), *refusals)
    refusals = (claim, "JwtInvalidIssuerError", "InvalidIssuerError", "token_incorrect")
    verifiers.refuse("another issuer", signed(iss=f"{issuer.issuer}/"), *refusals)
    refusals = ("ERR_JWT_EXPIRED", "JwtExpiredError", "ExpiredSignatureError", "token_expired")
    past = int(time.time()) - 5
    verifiers.refuse("an expired token", signed(iat=past - 3600, exp=past), *refusals)

    signature = (
        "ERR_JWS_SIGNATURE_VERIFICATION_FAILED",
        "JwtInvalidSignatureError",
        "InvalidSignatureError",
        "token_incorrect",
    )
    edited = [token.split(".")[0], encode(claims | {"sub": "1"}), token.split(".")[2]]
    verifiers.refuse("edited claims", ".".join(edited), *signature)
    verifiers.refuse("a foreign key under the name of the right one", signed(foreign), *signature)
    by_value = header | {"jwk": foreign_jwk}
    verifiers.refuse("a foreign key in the header", signed(foreign, by_value), *signature)
    by_url = header | {"jku": "https://attacker.example/keys"}
    verifiers.refuse("a foreign key at a URL in the header", signed(foreign, by_url), *signature)

    algorithm = (
        "ERR_JOSE_ALG_NOT_ALLOWED",
        "JwtInvalidSignatureAlgorithmError",
        "InvalidAlgorithmError",
        "token_incorrect",
    )
    unsigned = f"{encode(header | {'alg': 'none'})}.{token.split('.')[1]}."
    verifiers.refuse("no signature", unsigned, algorithm[0], "JwtParseError", *algorithm[2:])
    public, info = own.public_key(), serialization.PublicFormat.SubjectPublicKeyInfo
    secrets = {
        "PEM": public.public_bytes(serialization.Encoding.PEM, info),
        "DER": public.public_bytes(serialization.Encoding.DER, info),
        "JSON": json.dumps(issuer.key_set()[0]).encode(),
    }
    for name, secret in secrets.items():
        verifiers.refuse(f"the public key as a secret, as {name}", with_secret(secret), *algorithm)


def check_rotations(issuer: Issuer, node: Node, verifiers: Verifiers, first: str) -> None:
    current, following = issuer.kids()
    assert kid(first) == current

    with ThreadPoolExecutor(4) as pool:
        during = [pool.submit(sign_in) for _ in range(8)]
        rotate()
    during = [token.result() for token in during]
    second = sign_in()
    assert kid(second) == following
    assert {kid(token) for token in during} <= {current, following}
    assert issuer.kids()[0] == following and issuer.kids()[2] == current

    verifiers.accept(
        "tokens from before, during and after a rotation, with the keys from before", first, *during, second
    )
    verifiers.fetched_once()
    fresh = Verifiers(issuer, node)
    fresh.accept(
        "tokens from before, during and after a rotation, with the keys from after", first, *during, second
    )
    fresh.fetched_once()

    unknown = ("ERR_JWKS_NO_MATCHING_KEY", "KidNotFoundInJwksError", "PyJWKClientError", "token_incorrect")
    rotate()
    fresh = Verifiers(issuer, node)
    fresh.accept("tokens from before and after the next rotation", second, sign_in())
    fresh.refuse("a token from before the last rotation but one", first, *unknown)

    revoke_keys()
    fresh = Verifiers(issuer, node)
    fresh.accept("a token from after the revocation of all keys", sign_in())
    fresh.refuse("a token from before the revocation of all keys", second, *unknown)


def main() -> None:
    token = sign_in()
    issuer = Issuer(jwt.decode(token, options={"verify_signature": False})["iss"])
    node = Node(issuer)
    check_key_set(issuer, node)
    verifiers = Verifiers(issuer, node)
    verifiers.accept("a token", token)
    verifiers.fetched_once()
    check_forgeries(issuer, verifiers, token)
    check_rotations(issuer, node, verifiers, token)


if __name__ == "__main__":
    main()
