# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The following metadata allows "pipx run noxfile.py" and "uv run noxfile.py".
# /// script
# dependencies = ["nox>=2025.02.09", "antsibull-nox>=1.7"]
# ///

"""The tests that need no QEMU, for any machine and for public CI. See antsibull-nox.toml."""

from __future__ import annotations

import sys

import nox

try:
    import antsibull_nox
except ImportError:
    print("Install antsibull-nox in the same Python environment as nox.")
    sys.exit(1)


antsibull_nox.load_antsibull_nox_toml()


@nox.session
def rules(session: nox.Session) -> None:
    """Check the rules of this project: scripts/checks.py."""
    session.install("pyyaml")
    session.run("python", "scripts/checks.py", *session.posargs)


@nox.session
def ruff(session: nox.Session) -> None:
    """Check the Python code: ruff check."""
    session.install("ruff>=0.14,<1")
    session.run("ruff", "check", "--no-cache", ".", *session.posargs)


@nox.session
def changelog(session: nox.Session) -> None:
    """Check the changelog fragments."""
    session.install("antsibull-changelog>=0.30,<1")
    session.run("antsibull-changelog", "lint")


if __name__ == "__main__":
    nox.main()
