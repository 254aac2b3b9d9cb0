# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the vlab.qemu collection: it may change with any release.

"""Translate Python's names of QMP commands and arguments (node_name) to QEMU's (node-name)."""

from __future__ import annotations

from typing import Any

# Every name with an underscore in query-qmp-schema of QEMU 5.2 to 10.0. QEMU adds no more:
# qapi/pragma.json lists these as old exceptions.
_COMMANDS = frozenset(
    """add_client block_passwd block_resize block_set_io_throttle client_migrate_info device_add
    device_del expire_password migrate_cancel migrate_set_downtime migrate_set_speed netdev_add
    netdev_del qmp_capabilities set_link set_password system_powerdown system_reset
    system_wakeup""".split()
)
_KEYS = frozenset(
    """bps_max bps_max_length bps_rd bps_rd_max bps_rd_max_length bps_wr bps_wr_max
    bps_wr_max_length compare_timeout expired_scan_cycle grab_all iops_max iops_max_length iops_rd
    iops_rd_max iops_rd_max_length iops_size iops_wr iops_wr_max iops_wr_max_length max_queue_size
    new_state notify_dev primary_in secondary_in vnet_hdr vnet_hdr_support""".split()
)
# The argument that names properties of a device, object or CPU model; None: all arguments.
_PROPERTIES = {"device_add": None, "qom-set": "value", "query-cpu-model-expansion": "model"}


def to_qmp(
    command: str, arguments: dict[str, Any] | None = None
) -> tuple[str, dict[str, Any] | None]:
    """Return the command and its arguments with QEMU's names.

    Underscores become hyphens at any depth, unless QEMU itself uses the underscore or the key with
    hyphens is given too. Properties of devices, objects and CPU models keep their names: all
    arguments of device_add, the value of qom-set, the model of query-cpu-model-expansion.
    """
    hyphens = command.replace("_", "-")
    underscores = command.replace("-", "_")
    command = underscores if underscores in _COMMANDS else hyphens
    if not arguments or _PROPERTIES.get(command, "") is None:
        return command, arguments
    kept = _PROPERTIES.get(command)
    result = _rename({key: value for key, value in arguments.items() if key != kept})
    if kept in arguments:
        result[kept] = arguments[kept]
    return command, result


def _rename(data: Any) -> Any:
    if isinstance(data, list):
        return [_rename(item) for item in data]
    if not isinstance(data, dict):
        return data
    return {_rename_key(key, data): _rename(value) for key, value in data.items()}


def _rename_key(key: str, siblings: dict[str, Any]) -> str:
    hyphens = key.replace("_", "-")
    return key if key in _KEYS or hyphens in siblings else hyphens
