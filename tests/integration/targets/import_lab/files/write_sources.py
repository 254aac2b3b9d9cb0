# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the files that the target imports: write_sources.py FOLDER."""

from __future__ import annotations

import json
import pathlib
import shutil
import sys
import zipfile

HERE = pathlib.Path(__file__).parent


def node(number: int) -> dict[str, object]:
    """Return a QEMU node of GNS3."""
    return {
        "name": "R%d" % number,
        "node_id": "id-%d" % number,
        "node_type": "qemu",
        "port_name_format": "Gi0/{0}",
        "properties": {
            "adapters": 2,
            "adapter_type": "e1000",
            "hda_disk_image": "router.qcow2",
            "hda_disk_interface": "virtio",
            "options": "-nographic",
            "ram": 64,
        },
    }


def main(folder: pathlib.Path) -> None:
    """Write all files."""
    for name in ("site.clab.yml", "r1.cfg"):
        shutil.copy(HERE / name, folder / name)
    elsewhere = (HERE / "site.clab.yml").read_text().replace("r1.cfg", "../../etc/passwd")
    (folder / "elsewhere.clab.yml").write_text(elsewhere)
    ends = [{"node_id": "id-%d" % number, "adapter_number": 0} for number in (1, 2)]
    project = {
        "name": "routers",
        "revision": 9,
        "topology": {"nodes": [node(1), node(2)], "links": [{"nodes": ends}]},
    }
    with zipfile.ZipFile(folder / "routers.gns3project", "w") as archive:
        archive.writestr("project.gns3", json.dumps(project))
        archive.writestr("project-files/qemu/id-1/hda_disk.qcow2", "overlay")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
