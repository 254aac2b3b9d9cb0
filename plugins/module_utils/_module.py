# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""What all modules have in common: read the options, do the work, report the result or the error.

A module imports this before anything else of the collection: it activates the bytecode cache.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, NoReturn

# pylint: disable-next=unused-import,wrong-import-order
from ansible_collections.vlab.qemu.plugins.module_utils._remote import bytecode_cache  # noqa: F401

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.vlab.qemu.plugins.module_utils._common.masking import without_contents
from ansible_collections.vlab.qemu.plugins.module_utils._common.module_result import result_of
from ansible_collections.vlab.qemu.plugins.module_utils._common.validation import with_hint


class Module(AnsibleModule):
    """A module that shows the content of files neither in its result nor in the system's log.

    Its errors about unsupported parameters name similar ones.
    no_log of an option would mask each of its texts wherever it appears, however short it is.
    """

    params: Dict[str, Any]

    def _log_invocation(self) -> None:
        params = self.params
        self.params = without_contents(params)
        try:
            super()._log_invocation()
        finally:
            self.params = params

    def _return_formatted(self, kwargs: Dict[str, Any]) -> None:
        kwargs.setdefault("invocation", {"module_args": without_contents(self.params)})
        super()._return_formatted(kwargs)

    def fail_json(self, msg: str, **kwargs: Any) -> NoReturn:
        """Fail with a message. AnsibleModule calls it for invalid parameters."""
        if msg.startswith("Unsupported parameters"):
            unsupported = self.validation_result.unsupported_parameters
            msg = with_hint(msg, unsupported, self.argument_spec)
        super().fail_json(msg=msg, **kwargs)
        raise AssertionError  # fail_json does not return


def run_module(work: Callable[[AnsibleModule], Dict[str, Any]], **specification: Any) -> None:
    """Run a module to its end.

    work: does what the module is for and returns its result. The result's key `warnings`, a list of
    texts, becomes warnings of the module. With `failed` true the module fails with the rest of the
    result. A VlabError fails the module with the error's facts, an OSError with its path.
    specification: the arguments of AnsibleModule; check mode is supported.
    """
    module = Module(supports_check_mode=True, **specification)
    result = result_of(lambda: work(module))
    for warning in result.pop("warnings", ()):
        module.warn(warning)
    if result.get("failed"):
        module.fail_json(**result)
    module.exit_json(**result)
