# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check the pictures of a lab in a browser: what is drawn, where, and the effect of clicks.

look.py FOLDER SCREENSHOTS < the expected contents, as JSON
"""

from __future__ import annotations

import json
import pathlib
import re
import sys
import tempfile

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--window-size=1400,1000",
)
# Both ends of a wire on the screen.
ENDS = """const path = arguments[0].querySelector('.vl-wire');
const matrix = path.getScreenCTM(), length = path.getTotalLength();
return [0, length].map((at) => path.getPointAtLength(at).matrixTransform(matrix))
    .map((point) => [point.x, point.y]);"""
AT = """const box = arguments[0].querySelector('.vl-card').getBoundingClientRect();
const x = box.x + box.width / 2, y = box.y + box.height / 2;
const seen = document.elementFromPoint(x, y).closest('.vl-node');
return seen && seen.dataset.node;"""
STYLE = "return getComputedStyle(arguments[0])[arguments[1]];"


class Page:
    """A page in the browser."""

    def __init__(self, driver, path):
        self.driver, self.url = driver, path.as_uri()
        # What the browser's own first page fetched is not ours.
        driver.get("about:blank")
        driver.get_log("performance")
        driver.get(self.url)

    def all(self, selector, within=None):
        return (within or self.driver).find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector, within=None):
        found = self.all(selector, within)
        assert len(found) == 1, "%d of %s" % (len(found), selector)
        return found[0]

    def style(self, element, name):
        return self.driver.execute_script(STYLE, element, name)

    def texts(self, element, selector="text"):
        return [part.get_property("textContent") for part in self.all(selector, element)]

    def scheme(self, name):
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": name}]},
        )

    def check_silence(self):
        """No errors, and nothing was fetched but the page."""
        message = self.driver.get_log("browser")
        assert not message, message
        asked = [
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        ]
        urls = {
            entry["params"]["request"]["url"]
            for entry in asked
            if entry["method"] == "Network.requestWillBeSent"
        }
        urls = {url for url in urls if not url.startswith("data:")}
        assert urls == {self.url}, urls


def luminance(color):
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    parts = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def check_picture(page, expected):
    """Every node and every link is there and can be seen; a stopped node shows as stopped."""
    names = set(expected["consoles"])
    nodes = {node.get_attribute("data-node"): node for node in page.all(".vl-node")}
    assert set(nodes) == names, set(nodes) ^ names
    boxes = {}
    for name, node in nodes.items():
        assert node.is_displayed() and float(page.style(node, "opacity")) == 1
        assert page.driver.execute_script(AT, node) == name, "something lies on %s" % name
        words = page.texts(node)
        state = "stopped" if name in expected["stopped"] else "running"
        assert words[0] == name and state in words, words
        boxes[name] = page.one(".vl-card", node).rect
    # A stopped node differs in its frame and its ground, and has a dot of another colour.
    for selector, name in (
        (".vl-card", "stroke"),
        (".vl-card", "fill"),
        (".vl-card", "strokeDasharray"),
        (".vl-dot", "fill"),
    ):
        styles = {node: page.style(page.one(selector, part), name) for node, part in nodes.items()}
        running = {styles[node] for node in names - set(expected["stopped"])}
        assert len(running) == 1 and not running & {styles[node] for node in expected["stopped"]}, (
            selector,
            name,
            styles,
        )

    links = {}
    for link in page.all(".vl-link"):
        title = page.texts(link, "title")[0]
        ends = [part.split(" ")[0] for part in title.replace(", down", "").split(" -- ")]
        links[frozenset(ends)] = link
        wire = page.one(".vl-wire", link)
        assert (
            wire.is_displayed()
            and page.style(wire, "stroke") != "none"
            and float(page.style(wire, "strokeWidth").replace("px", "")) > 1
        )
        for end, (x, y) in zip(ends, page.driver.execute_script(ENDS, link)):
            box = boxes[end.split(":")[0]]
            assert (
                box["x"] - 2 <= x <= box["x"] + box["width"] + 2
                and box["y"] - 2 <= y <= box["y"] + box["height"] + 2
            ), "%s ends elsewhere" % title
        is_down = any(end.split(":")[0] in expected["stopped"] for end in ends)
        number = link.get_attribute("data-link")
        words = page.texts(page.one(".vl-labels[data-labels='%s']" % number))
        assert title.endswith(", down") == is_down and ("down" in words) == is_down
        assert (page.style(wire, "strokeDasharray") != "none") == is_down
    connected = {frozenset(link.split(" ")) for link in expected["links"]}
    assert set(links) == connected, set(links) ^ connected
    return nodes, links


def check_tables(page, expected):
    rows = {row.get_attribute("data-row"): row.text for row in page.all("#nodes tbody tr")}
    assert set(rows) == set(expected["consoles"])
    for name, text in rows.items():
        assert (
            expected["consoles"][name] in " ".join(text.split("\n"))
            and expected["hypervisor"] in text
        )
        assert ("stopped" if name in expected["stopped"] else "running") in text
    assert all(address in rows[name] for name, address in expected["addresses"].items())
    found = {
        frozenset(part for part in row.text.split() if re.fullmatch(r"\w+:\w+", part))
        for row in page.all("#links tbody tr")
    }
    assert found == {frozenset(link.split(" ")) for link in expected["links"]}


def check_clicks(page, expected, nodes, links):
    """A click or a key shows what is known of a node."""
    assert not [article for article in page.all(".panel article") if article.is_displayed()]
    for name, act in (
        (
            "leaf3",
            lambda node: ActionChains(page.driver).click(page.one(".vl-card", node)).perform(),
        ),
        ("host1", lambda node: node.send_keys(Keys.ENTER)),
    ):
        act(nodes[name])
        (article,) = [article for article in page.all(".panel article") if article.is_displayed()]
        assert article.get_attribute("data-of") == name
        assert expected["consoles"][name] == page.one("code", article).text
        for word in (expected["addresses"][name], expected["hypervisor"], "running", "tiny"):
            assert word in article.text, (word, article.text)
        ours = sorted(
            end.split(":")[1]
            for link in expected["links"]
            for end in link.split(" ")
            if end.startswith(name + ":")
        )
        assert sorted(page.texts(article, "li b")) == ours
        lit = {ends for ends, link in links.items() if "vl-lit" in link.get_attribute("class")}
        assert lit == {ends for ends in links if any(end.startswith(name + ":") for end in ends)}
    page.one("button.copy", article).click()
    search = page.one("#search")
    search.send_keys(Keys.CONTROL, "v")
    assert search.get_property("value") == expected["consoles"]["host1"], search.get_property(
        "value"
    )
    page.one("li a", article).click()
    assert [
        article.get_attribute("data-of")
        for article in page.all(".panel article")
        if article.is_displayed()
    ] == ["leaf1"]

    search.clear()
    search.send_keys("stopped")
    shown = {name for name, node in nodes.items() if float(page.style(node, "opacity")) == 1}
    assert (
        shown
        == set(expected["stopped"])
        == {
            row.get_attribute("data-row")
            for row in page.all("#nodes tbody tr")
            if row.is_displayed()
        }
    )
    search.clear()
    search.send_keys(Keys.SPACE, Keys.BACKSPACE)
    assert all(float(page.style(node, "opacity")) == 1 for node in nodes.values())

    picture = page.one(".scene svg")
    before = picture.rect["width"]
    page.one("[data-zoom='1.25']").click()
    larger = picture.rect["width"]
    page.one("[data-zoom='fit']").click()
    assert larger > before * 1.2 and abs(picture.rect["width"] - before) < 1


def check_colors(page, shots):
    """Both color schemes are readable."""
    grounds = {}
    for scheme in ("light", "dark"):
        page.scheme(scheme)
        ground = grounds[scheme] = page.style(page.one(".panel"), "backgroundColor")
        assert (
            contrast(
                page.style(page.one("h1"), "color"), page.style(page.one("body"), "backgroundColor")
            )
            > 7
        )
        assert contrast(page.style(page.all(".panel article.chosen dt")[0], "color"), ground) > 4.5
        for node in page.all(".vl-node"):
            card = page.style(page.one(".vl-card", node), "fill")
            for text in page.all("text", node):
                assert contrast(page.style(text, "fill"), card) > 4.5, (
                    scheme,
                    text.text,
                    page.style(text, "fill"),
                    card,
                )
        page.driver.save_screenshot(str(shots / ("page-%s.png" % scheme)))
    assert luminance(grounds["light"]) > 0.8 and luminance(grounds["dark"]) < 0.1
    page.scheme("light")


def main(folder, shots):
    expected = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for flag in FLAGS + ("--user-data-dir=" + profile,):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(
            options=options, service=webdriver.ChromeService("/usr/bin/chromedriver")
        )
        try:
            page = Page(driver, folder / (expected["lab"] + ".html"))
            driver.save_screenshot(str(shots / "page.png"))
            assert page.one("h1").text == expected["lab"]
            nodes, links = check_picture(page, expected)
            check_tables(page, expected)
            check_clicks(page, expected, nodes, links)
            check_colors(page, shots)
            driver.set_window_size(480, 900)
            assert driver.execute_script(
                "return document.documentElement.scrollWidth <= innerWidth"
            )
            driver.save_screenshot(str(shots / "page-narrow.png"))
            driver.set_window_size(1400, 1000)
            page.check_silence()

            page = Page(driver, folder / (expected["lab"] + ".svg"))
            check_picture(page, expected)
            page.check_silence()
            driver.save_screenshot(str(shots / "picture.png"))
        finally:
            driver.quit()
    print("%d nodes and %d links were seen" % (len(nodes), len(links)))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
