# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Commands of the monitor and their arguments in Python's spelling (node_name) made QEMU's (node-name)."""

from __future__ import annotations

# Every name with an underscore in query-qmp-schema of QEMU 5.2 to 10.0; QEMU adds none (qapi/pragma.json lists them as old exceptions).
_COMMANDS = frozenset(
    """add_client block_passwd block_resize block_set_io_throttle client_migrate_info device_add device_del
    expire_password migrate_cancel migrate_set_downtime migrate_set_speed netdev_add netdev_del qmp_capabilities set_link
    set_password system_powerdown system_reset system_wakeup""".split()
)
_KEYS = frozenset(
    """bps_max bps_max_length bps_rd bps_rd_max bps_rd_max_length bps_wr bps_wr_max bps_wr_max_length
    compare_timeout expired_scan_cycle grab_all iops_max iops_max_length iops_rd iops_rd_max iops_rd_max_length iops_size
    iops_wr iops_wr_max iops_wr_max_length max_queue_size new_state notify_dev primary_in secondary_in vnet_hdr
    vnet_hdr_support""".split()
)
_FREE = {"device_add": None, "qom-set": "value", "query-cpu-model-expansion": "model"}


def to_qmp(command, arguments=None):
    """The command and its arguments as QEMU spells them.

    A name that QEMU writes with an underscore stays. In every other, at any depth, underscores become hyphens, unless
    the hyphenated key is given, too. What belongs to a device, an object or a CPU model and not to the monitor stays as it
    is: all arguments of device_add, the value of qom-set, the model of query-cpu-model-expansion.
    """
    hyphens = command.replace("_", "-")
    underscores = command.replace("-", "_")
    command = underscores if underscores in _COMMANDS else hyphens
    if not arguments or _FREE.get(command, "") is None:
        return command, arguments
    free = _FREE.get(command)
    spelled = _keys({key: value for key, value in arguments.items() if key != free})
    if free in arguments:
        spelled[free] = arguments[free]
    return command, spelled


def _keys(data):
    if isinstance(data, list):
        return [_keys(item) for item in data]
    if not isinstance(data, dict):
        return data
    return {_key(key, data): _keys(value) for key, value in data.items()}


def _key(key, among):
    hyphens = key.replace("_", "-")
    return key if key in _KEYS or hyphens in among else hyphens
