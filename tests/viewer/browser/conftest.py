"""Pages of the viewer in Debian's chromium: nothing may leave 127.0.0.1, and nothing may be said on the console.

``page = page_of("/runs", runs=folder)`` opens an address of a viewer that `create_app` makes from the arguments.
Further arguments: ``device="phone"``, ``theme="dark"``, ``allow=["409"]`` (patterns of console errors that the test
itself causes). ``check_accessible(page)`` asks axe-core. All tests of this folder have the marker `browser`, which
`scripts/browser` runs.
"""

import os
import re
import shutil
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SIZES = {"desk": (1440, 900), "phone": (390, 844), "small": (360, 740), "wide": (1920, 1080)}
#: Nothing is fetched, reported or updated by chromium itself; its camera is a picture that it draws.
SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)


def pytest_addoption(parser):
    parser.addoption("--pictures", metavar="FOLDER", help="where pages are photographed for a look at them")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)


def chromium():
    """Where chromium lies; None where there is none."""
    named = os.environ.get("CLOSEDLOOP_CHROMIUM")
    return named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install '.[test]'")
    path = chromium()
    if path is None:
        pytest.skip("no chromium: scripts/browser installs Debian's, or set CLOSEDLOOP_CHROMIUM to the path of one")
    with playwright.sync_playwright() as at_work:
        playwright.expect.set_options(timeout=60_000)  # how fast a computer is decides no test
        started = at_work.chromium.launch(executable_path=path, headless=True, args=list(SWITCHES))
        yield started
        started.close()


@contextmanager
def serving(app):
    """Serves an application on a free port of 127.0.0.1 while the block runs, and gives its address."""
    import uvicorn

    from closedloop.viewer.serving import settings_of

    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(settings_of(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    assert server.started
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
        assert not thread.is_alive(), "the server did not end"


@pytest.fixture(scope="session")
def served_app():
    """Serves any application while a block runs: ``with served_app(app) as address``."""
    return serving


@pytest.fixture
def address_of():
    """Serves viewers until the test ends: ``address_of(subject=…)`` gives an address, one for the same arguments."""
    from contextlib import ExitStack

    from closedloop.viewer import create_app

    served = {}
    with ExitStack() as stack:

        def serve(**app_kwargs):
            key = tuple(sorted((name, id(value)) for name, value in app_kwargs.items()))
            if key not in served:
                served[key] = stack.enter_context(serving(create_app(**app_kwargs)))
            return served[key]

        yield serve


class Watch:
    """Notes what a page must not do."""

    def __init__(self, address, allow):
        self.address, self.allow, self.wrong = address, [re.compile(a) for a in allow], []

    def follow(self, page):
        page.on("request", lambda request: self._asked(request.url))
        page.on("pageerror", lambda error: self._note(f"page error: {error}"))
        page.on("console", lambda said: said.type in ("error", "warning") and self._note(f"console: {said.text}"))

    def _asked(self, url):
        if not url.startswith((f"{self.address}/", "blob:", "data:")):
            self._note(f"left the computer: {url}")

    def _note(self, text):
        if not any(pattern.search(text) for pattern in self.allow):
            self.wrong.append(text)


@pytest.fixture
def page_of(browser, address_of):
    contexts, watches = [], []

    def opened(path="/", device="desk", theme="light", allow=(), calm=True, **app_kwargs):
        address = app_kwargs.pop("address", None) or address_of(**app_kwargs)
        width, height = SIZES[device]
        hand = device in ("phone", "small")
        context = browser.new_context(
            base_url=address,
            viewport={"width": width, "height": height},
            color_scheme=theme,
            has_touch=hand,
            is_mobile=hand,
            reduced_motion="reduce" if calm else "no-preference",
            service_workers="block",
            permissions=["camera"],
        )
        context.set_default_timeout(60_000)
        watch = Watch(address, allow)
        context.on("page", watch.follow)
        contexts.append(context)
        watches.append(watch)
        page = context.new_page()
        page.goto(path)
        return page

    yield opened
    for context in contexts:
        context.close()
    wrong = [text for watch in watches for text in watch.wrong]
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def check_accessible():
    """Fails on what axe-core finds: ``check_accessible(page)``. The policy refuses its script, so it is evaluated."""
    source = (HERE / "axe" / "axe.min.js").read_text(encoding="utf-8")

    def check(page, without=()):
        page.evaluate(source)
        found = page.evaluate(
            "without => axe.run(document, {rules: Object.fromEntries(without.map(r => [r, {enabled: false}]))})",
            list(without),
        )
        told = [
            f"{one['id']}: {one['help']}\n  {node['html'][:200]}\n  {node['failureSummary']}"
            for one in found["violations"]
            for node in one["nodes"][:5]
        ]
        assert not told, "\n".join(told)

    return check


@pytest.fixture
def check_width():
    """Fails where a page is wider than its window: ``check_width(page)``."""

    def check(page):
        wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1], f"the page is {wide[0]} pixels wide in a window of {wide[1]}"

    return check


@pytest.fixture
def photograph(request):
    """Keeps a picture of a page where ``--pictures FOLDER`` says so: ``photograph(page, "runs-dark")``."""
    folder = request.config.getoption("--pictures", default=None)

    def take(page, name, full=False):
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder) / f"{name}.png", full_page=full)

    return take


@pytest.fixture(scope="session")
def small_subject():
    """A convolutional network of two layers and ten classes, which answers in a millisecond."""
    torch = pytest.importorskip("torch")
    from closedloop.subjects import TorchSubject

    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = torch.nn.Sequential()
        net.add_module("first", torch.nn.Conv2d(3, 12, 5, stride=2, padding=2))
        net.add_module("relu", torch.nn.ReLU())
        net.add_module("second", torch.nn.Conv2d(12, 20, 3, stride=2, padding=1))
        net.add_module("act", torch.nn.ReLU())
        net.add_module("pool", torch.nn.AdaptiveAvgPool2d(1))
        net.add_module("flat", torch.nn.Flatten())
        net.add_module("head", torch.nn.Linear(20, 10))
    return TorchSubject(net.eval(), resolution=64, engine="eager", name="small")
