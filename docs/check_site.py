"""Open the built pages in a real headless browser: links, figures, search, phone width.

    python docs/check_site.py [FOLDER]

Needs ``chromium`` and ``chromedriver`` on the path, and nothing from the network; without them it
says so and ends with status 77. Links and anchors are checked on every page, the browser opens
some of each kind.
"""

import functools
import html.parser
import http.server
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

PHONE = 390
SEARCHED = {
    "FastRP": "FastRP",
    "Sinkhorn": "transport",
    "covariance": "covariance",
    "cite": "howto/cite",
    "save": "howto/save",
    "missing values": "howto/missing",
    "imputation": "howto/missing",
    "scRNA": "howto/single_cells",
    "compare samples": "howto/compare",
}


class Page(html.parser.HTMLParser):
    """Links out of a page, and the anchors in it."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = [], {""}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Collect the links and anchors of one tag."""
        attrs = dict(attrs)
        self.anchors.update(attrs[key] for key in ("id", "name") if attrs.get(key))
        for key in ("href", "src"):
            if attrs.get(key):
                self.links.append(attrs[key])


def broken_links(folder):
    """Return links to pages, files or anchors that are not in the folder."""
    paths = [p for p in sorted(folder.rglob("*.html")) if "_static" not in p.parts]
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in paths}
    wrong = []
    for path, page in pages.items():
        for link in page.links:
            url = urllib.parse.urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = path
            if url.path:
                target = (path.parent / urllib.parse.unquote(url.path)).resolve()
            name = path.relative_to(folder)
            if not target.is_file():
                wrong.append(f"{name}: {link} is not there")
            elif (
                target in pages and urllib.parse.unquote(url.fragment) not in pages[target].anchors
            ):
                wrong.append(f"{name}: {link} has no such anchor")
    return len(pages), wrong


def faults_of_api_pages(folder):
    """Return estimators whose pages lack methods, and pages of API and guide without each other.

    A guide page links to the estimators that it is about; a page of the API links to its guide.
    """
    root = pathlib.Path(__file__).parents[1]
    sys.path[:0] = [str(root), str(root / "docs")]
    from make_tables import guides

    from sklr.utils import all_estimators, all_module_estimators

    estimators = {cls.__name__ for _, cls in all_estimators() + all_module_estimators()}
    wrong = []
    for dotted, guide in guides().items():
        page = f"generated/{dotted}.html"
        path = folder / page
        if not path.is_file():
            wrong.append(f"{page} is not there")
            continue
        text = path.read_text(encoding="utf-8")
        name = dotted.rpartition(".")[2]
        target = f"{guide.removeprefix('/')}.html"
        article = text[text.find("<article") :]
        if f'href="../{target}"' not in article:
            wrong.append(f"{page} does not link to {target}")
        if name in estimators:
            if f'id="{dotted}.fit"' not in text:
                wrong.append(f"{page} has no method fit")
            if f'href="../{page}' not in (folder / target).read_text(encoding="utf-8"):
                wrong.append(f"{target} does not link to {page}")
    return wrong


class Browser:
    """A headless Chromium through its driver, by the WebDriver protocol."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.driver = subprocess.Popen(
            [shutil.which("chromedriver"), f"--port={port}"], stdout=subprocess.DEVNULL
        )
        self.root = f"http://127.0.0.1:{port}"
        for _ in range(100):
            try:
                self.call("GET", "/status")
                break
            except OSError:
                time.sleep(0.1)
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        wanted = {
            "goog:chromeOptions": {"args": arguments, "binary": shutil.which("chromium")},
            "goog:loggingPrefs": {"browser": "SEVERE"},
        }
        made = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session = f"/session/{made['sessionId']}"

    def call(self, method, path, body=None):
        """Send one command and return its value."""
        data = None if method == "GET" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self.root + path, data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as exc:
            raise RuntimeError(exc.read().decode()[:500]) from exc

    def open(self, url, width=1280):
        """Open a page at a window width."""
        self.call("POST", f"{self.session}/window/rect", {"width": width, "height": 900})
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics}
        self.call("POST", f"{self.session}/goog/cdp/execute", command)
        self.call("POST", f"{self.session}/url", {"url": url})

    def run(self, script):
        """Run JavaScript and return what it returns."""
        return self.call("POST", f"{self.session}/execute/sync", {"script": script, "args": []})

    def errors(self):
        """Return severe messages of the console since the last call, about our own files.

        The theme complains of a stored mode that a fresh browser cannot have.
        """
        log = self.call("POST", f"{self.session}/se/log", {"type": "browser"})
        messages = [e["message"] for e in log if "http://127.0.0.1" in e["message"]]
        return [message for message in messages if "theme mode" not in message]

    def close(self):
        """End the browser and its driver."""
        try:
            self.call("DELETE", self.session)
        finally:
            self.driver.terminate()
            self.driver.wait(10)


def looked_at(folder):
    """Return the pages that the browser opens: all of the first level, and some of each kind."""
    pages = sorted(folder.glob("*.html")) + sorted(folder.glob("user_guide/*.html"))
    pages += sorted(folder.glob("gallery/*/plot_*.html")) + [folder / "gallery" / "index.html"]
    pages += sorted(folder.glob("generated/sklr.*.html"))[::8]
    return [p.relative_to(folder).as_posix() for p in pages if p.stem not in ("search", "genindex")]


def wrong_in_browser(folder, root):
    """Return what a browser finds wrong, and the number of pages opened."""
    wrong, pages = [], looked_at(folder)
    browser = Browser()
    try:
        for page in pages:
            browser.open(f"{root}/{page}")
            if not browser.run("return document.title.length > 0"):
                wrong.append(f"{page}: no title")
            dead = browser.run(
                "for (const i of document.images) i.loading = 'eager';"
                "return [...document.images].filter(i => i.complete && !i.naturalWidth)"
                ".map(i => i.getAttribute('src'))"
            )
            wrong += [f"{page}: {source} does not show" for source in dead]
            wrong += [f"{page}: {message}" for message in browser.errors()]
            browser.open(f"{root}/{page}", PHONE)
            width = browser.run("return document.documentElement.scrollWidth")
            if width > PHONE + 5:
                wrong.append(f"{page}: {width} pixels wide on a phone of {PHONE}")
        for words, expected in SEARCHED.items():
            browser.open(f"{root}/search.html?q={words}")
            for _ in range(50):
                found = browser.run(
                    "return [...document.querySelectorAll('#search-results li a')]"
                    ".map(a => a.getAttribute('href'))"
                )
                if found:
                    break
                time.sleep(0.2)
            if not any(expected.lower() in link.lower() for link in found):
                wrong.append(f"search for {words} finds {found[:5]}")
    finally:
        browser.close()
    return len(pages), wrong


def main():
    """Check a folder of built pages; the exit status says how it went."""
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "docs/_build/html").resolve()
    if not (folder / "index.html").is_file():
        sys.exit(f"{folder} has no index.html: build the pages first (make docs)")
    count, wrong = broken_links(folder)
    print(f"{count} pages, links and anchors: {len(wrong)} wrong")
    api = faults_of_api_pages(folder)
    print(f"pages of the API and of the guide: {len(api)} wrong")
    wrong += api
    absent = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
    if absent:
        print(f"no browser opened: {' and '.join(absent)} not found")
        print(*wrong, sep="\n")
        sys.exit(1 if wrong else 77)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    opened, seen = wrong_in_browser(folder, f"http://127.0.0.1:{server.server_address[1]}")
    print(f"{opened} pages opened at two widths, {len(SEARCHED)} searches: {len(seen)} wrong")
    wrong += seen
    print(*wrong, sep="\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
