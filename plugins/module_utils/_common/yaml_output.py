# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Data as JSON that every reader of YAML reads as the same data."""

from __future__ import annotations

import json
import re
from typing import Any

# YAML has no surrogates: a character outside the BMP stands for itself. What a reader of YAML
# refuses in a file, or takes for the end of a line, is written as an escape sequence.
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def to_yaml(data: Any) -> str:
    """Return data as a document. Raises ValueError for what neither JSON nor YAML can hold."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1, sort_keys=True)
    text.encode("utf-8")  # raises UnicodeEncodeError for a surrogate
    return _ESCAPED.sub(lambda match: "\\u%04x" % ord(match.group()), text) + "\n"
