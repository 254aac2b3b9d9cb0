# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Print as JSON what cloud-init finds in the seeds and config drives of all VMs below a root.

python read_seeds.py TREE ROOT

TREE: a folder for the unpacked Debian package of cloud-init and what that depends on.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[5]
sys.path[:0] = [str(ROOT / ".collections"), str(ROOT / "roles/guest_image/files")]

import build_guest_image
from ansible_collections.vlab.qemu.tests.unit.plugins.module_utils._common import (
    test_file_systems,
)


def unpack(tree):
    """Unpack cloud-init, and let Python import it."""
    if not os.path.isdir(tree):
        suite = build_guest_image.release("VERSION_CODENAME")
        build_guest_image.unpack_packages(tree, {"cloud-init"}, suite, [])
    sys.path.insert(0, os.path.join(tree, "usr/lib/python3/dist-packages"))
    # Without it, cloud-init asks whether it is in a container.
    os.environ["DEBUG_PROC_CMDLINE"] = ""


def read(image, folder):
    """Return what cloud-init finds in an image. folder: a new one for its files."""
    from cloudinit import helpers, user_data, util
    from cloudinit.net import network_state
    from cloudinit.sources import DataSourceNoCloud as nocloud

    for name, content in test_file_systems.read_iso(image).items():
        (folder / name).write_bytes(content)
    paths = helpers.Paths({"cloud_dir": str(folder / "cloud"), "run_dir": str(folder / "run")})
    settings = {"datasource": {"NoCloud": {"fs_label": None}}}
    source = nocloud.DataSourceNoCloud(settings, None, paths)
    source.ds_cfg = settings["datasource"]["NoCloud"]
    source.seed_dirs = [str(folder)]
    if not source._get_data():
        raise ValueError("cloud-init takes the drive for no seed")

    def parts(content):
        message = user_data.UserDataProcessor(paths).process(content) if content else None
        found = [
            (part.get_content_type(), util.fully_decoded_payload(part))
            for part in (message.walk() if message else ())
            if part.get_content_maintype() != "multipart"
        ]
        return [kind for kind, _text in found], [text_of(kind, text) for kind, text in found]

    types, texts = parts(source.userdata_raw)
    vendor_types, vendor_texts = parts(source.vendordata_raw)
    network = source.network_config
    interfaces = (
        network_state.parse_net_config_data(network)._network_state["interfaces"] if network else {}
    )
    return {
        "instance_id": source.metadata["instance-id"],
        "host_name": source.metadata["local-hostname"],
        "types": types,
        "texts": texts,
        "vendor_types": vendor_types,
        "vendor_texts": vendor_texts,
        "interfaces": sorted(interfaces),
        "addresses": sorted(
            subnet["address"].partition("/")[0]
            for interface in interfaces.values()
            for subnet in interface["subnets"]
            if subnet.get("address")
        ),
    }


def text_of(kind, content):
    """Return a part as text; of a cloud-config, the data in it, one value in each line."""
    from cloudinit import util

    text = content.decode("utf-8") if isinstance(content, bytes) else content
    if kind != "text/cloud-config":
        return text
    return "\n".join(leaves(util.load_yaml(text)) or ["{}"])


def leaves(data):
    """Return all texts in data."""
    if isinstance(data, dict):
        data = list(data.values())
    if isinstance(data, list):
        return [text for item in data for text in leaves(item)]
    return [str(data)]


def main(tree, root):
    """Read all images."""
    unpack(tree)
    found = {}
    for image in sorted(
        [*pathlib.Path(root).glob("*/*/seed.iso"), *pathlib.Path(root).glob("*/*/config.iso")]
    ):
        with tempfile.TemporaryDirectory() as folder:
            name = "/".join(image.parts[-3:-1])
            found[name] = read(image.read_bytes(), pathlib.Path(folder))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
