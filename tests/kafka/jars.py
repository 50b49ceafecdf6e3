"""Apache Kafka's jars and a Java to run them: ``python -m tests.kafka.jars`` says in one line what is missing.

Maven copies them once, by the ``pom.xml`` beside this file, into a cache that all checkouts of a person share.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.cached import cached

__all__ = ["KafkaMissing", "class_path", "java"]

POM: Final = Path(__file__).with_name("pom.xml")
OLDEST_JAVA: Final = 17  # what Kafka 4's brokers need
SECONDS: Final = 600.0


class KafkaMissing(Exception):
    """Apache Kafka cannot be run here; the text says what to install."""


def java() -> str:
    """The path of a Java that is new enough: that of JAVA_HOME, else the first of PATH. Raises KafkaMissing."""
    home = os.environ.get("JAVA_HOME")
    program = shutil.which("java", path=f"{home}/bin" if home else None) or shutil.which("java")
    wanted = f"Apache Kafka needs Java {OLDEST_JAVA} or later: install one (on Debian: apt-get install openjdk-17-jre-headless)"
    if program is None:
        raise KafkaMissing(f"{wanted}; there is no java in PATH")
    told = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', told.stderr + told.stdout)
    if version is None or int(version[1]) < OLDEST_JAVA:
        raise KafkaMissing(f"{wanted}; {program} is {version[1] if version else 'of no known version'}")
    return program


def class_path() -> str:
    """What to give ``java -cp``; fetches the jars at the first time. Raises KafkaMissing."""
    return f"{cached('kafka', POM, _fetch)}/*"


def _fetch(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaMissing("Apache Kafka's jars are fetched by Maven: install it (on Debian: apt-get install maven)")
    command = [maven, "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise KafkaMissing(f"Maven has not fetched Apache Kafka's jars within {SECONDS:.0f} s") from None
    if done.returncode != 0:
        errors = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
        raise KafkaMissing(f"Maven cannot fetch Apache Kafka's jars: {errors[0] if errors else 'it does not say why'}")


if __name__ == "__main__":
    try:
        java()
        class_path()
    except KafkaMissing as missing:
        sys.exit(f"error: {missing}")
