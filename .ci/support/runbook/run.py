"""Runs the commands of the documents on emulators: run.py FOLDER LOCAL_API LOCAL_AWS MINISTACK

Every block of shell commands is run, in the order of the documents and in one shell, with setup.bash before them. In it,
`aws` is the AWS CLI at the emulator that knows the operation. Operations that no emulator knows are only parsed, and so
are commands that are cut short: the AWS CLI checks parameters before it tries to connect. Runs with the Python of
the AWS CLI, which is loaded once and forked for each command, because its start takes longer than the rest.
"""

import contextlib
import gc
import io
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from awscli.clidriver import create_clidriver
from commands import ANSWERS, EMULATORS, NO_EMULATOR, ONLY_IN_MINISTACK, ROOT, program


class Cli:
    """The AWS CLI at the emulators."""

    def __init__(self, folder: Path, urls: dict[str, str]) -> None:
        self.urls, self.log, self.driver = urls, folder / "calls", create_clidriver()
        # The first command loads what the others need as well.
        with contextlib.redirect_stdout(io.StringIO()):
            self.run(["dynamodb", "scan", "--table-name", "postern-users"])
        gc.collect()
        gc.freeze()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "socket"))
        self.listener.listen()

    def serve(self, bash: subprocess.Popen[bytes]) -> int:
        """Answers the commands of a program until it ends, and returns its status."""
        calls: list[int] = []
        while bash.poll() is None:
            if select.select([self.listener], [], [], 0.1)[0]:
                connection, _ = self.listener.accept()
                message, streams, _, _ = socket.recv_fds(connection, 1 << 16, 3)
                if not (call := os.fork()):
                    self.answer(connection, message, streams)
                calls.append(call)
                connection.close()
                for stream in streams:
                    os.close(stream)
            calls = [call for call in calls if os.waitpid(call, os.WNOHANG) == (0, 0)]
        return bash.returncode

    def answer(self, connection: socket.socket, message: bytes, streams: list[int]) -> NoReturn:
        """Runs one command with the streams of the process that asks for it."""
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        while not message.endswith(b"\n"):
            message += connection.recv(1 << 16)
        request = json.loads(message)
        os.chdir(request["directory"])
        arguments = request["arguments"]
        operation = " ".join(arguments[:2])
        parse_only = request["parse_only"] or operation in NO_EMULATOR
        try:
            status = self.parse(arguments) if parse_only else self.run(arguments)
            if answer := ANSWERS.get(operation):
                print(answer)
        except BaseException as error:  # noqa: BLE001
            print(repr(error), file=sys.stderr)
            status = 1
        sys.stdout.flush()
        with self.log.open("a") as log:
            log.write(json.dumps([operation, parse_only, status]) + "\n")
        connection.sendall(str(status).encode())
        os._exit(0)

    def run(self, arguments: list[str]) -> int:
        operation = " ".join(arguments[:2])
        is_local = operation in EMULATORS["local"] and ONLY_IN_MINISTACK not in arguments
        url = self.urls["local" if is_local else "ministack"]
        status: int = self.driver.main([*arguments, "--endpoint-url", url])
        return status

    def parse(self, arguments: list[str]) -> int:
        """Returns 0 if the CLI accepts a command as far as it can without a service. A name alone lacks parameters."""
        with tempfile.TemporaryFile("w+") as errors:
            os.dup2(errors.fileno(), 2)
            with contextlib.suppress(SystemExit):  # by the parser of arguments
                self.driver.main([*arguments, "--endpoint-url", "http://127.0.0.1:1"])
            sys.stderr.flush()
            errors.seek(0)
            text = errors.read()
        accepted = "Could not connect to the endpoint" in text
        accepted |= len(arguments) == 2 and "the following arguments are required" in text
        if not accepted:
            print(text)
        return 0 if accepted else 1


def main() -> None:
    folder, (api, local, ministack) = Path(sys.argv[1]).absolute(), sys.argv[2:]
    text, operations = program(api, local)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("functions", "events", "template.yaml", "edge.yaml", "key.yaml", "samconfig.toml", ".ci"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "program").write_text(text, encoding="utf-8")
    os.environ.update(
        AWS_ACCESS_KEY_ID="operator",
        AWS_SECRET_ACCESS_KEY="local",
        AWS_DEFAULT_REGION="eu-central-1",
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_MAX_ATTEMPTS="1",
        AWS_ENDPOINT_URL=local,
        RUNBOOK_SOCKET=str(folder / "socket"),
        # This Python as well, which starts faster than one behind a version manager.
        PATH=f"{Path(__file__).parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
    )
    cli = Cli(folder, {"local": local, "ministack": ministack})
    with (folder / "output").open("w") as output:
        bash = subprocess.Popen(["bash", "program"], cwd=folder, stdin=subprocess.DEVNULL, stdout=output)
        status = cli.serve(bash)
    calls: list[Any] = [json.loads(line) for line in cli.log.read_text().splitlines()]
    # Some are in places where bash does not notice: `diff <(aws …)`.
    failed = [operation for operation, _, code in calls if code]
    missed = sorted(operations - {operation for operation, _, _ in calls})
    if status or failed:
        sys.exit(f"status {status}; failed: {failed}; the output is in {folder}/output")
    if missed:
        sys.exit(f"these were not reached: {', '.join(missed)}")
    ran = {operation for operation, parse_only, _ in calls if not parse_only}
    print(f"{len(calls)} commands: {len(ran)} operations were run, {len(operations - ran)} only parsed")


if __name__ == "__main__":
    main()
