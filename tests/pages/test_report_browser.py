"""The report in a real browser: Debian's Chromium through playwright."""

import shutil

import pytest
from example_run import agreement, problem, reports, spoil, write_example_run

from sbikit.pages import write_report

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = write_example_run(
        tmp_path_factory.mktemp("browser"),
        problem(channels=3),
        judged=spoil(reports(problem())),
        compared=(agreement(problem(channels=3)),),
    )
    return write_report(folder).as_uri()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


class Visit:
    """A page with what it asked for and complained about."""

    def __init__(self, browser, address, width):
        self.requests, self.complaints = [], []
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(address, wait_until="load")


@pytest.fixture(params=[1280, 420])
def visit(request, browser, address):
    made = Visit(browser, address, request.param)
    yield made
    made.page.close()


def test_nothing_is_requested_and_nothing_is_complained_about(visit, address):
    outside = [url for url in visit.requests if not url.startswith("data:")]
    assert outside == [address]
    assert visit.complaints == []


def test_a_request_would_have_been_noticed(browser, tmp_path):
    path = tmp_path / "page.html"
    path.write_text('<title>x</title><img src="file:///nowhere.png"><script>console.error("no")</script>')
    spoiled = Visit(browser, path.as_uri(), 1280)
    assert "file:///nowhere.png" in spoiled.requests
    assert "no" in spoiled.complaints
    spoiled.page.close()


def test_nothing_is_wider_than_the_screen(visit):
    width = visit.page.viewport_size["width"]
    assert visit.page.evaluate("document.documentElement.scrollWidth") == width
    too_wide = visit.page.evaluate(
        """() => [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, details, svg')
            && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
            .map(e => e.tagName + ' ' + e.className)"""
    )
    assert too_wide == []


def test_every_picture_is_shown_in_the_layout_of_the_screen(visit):
    narrow = visit.page.viewport_size["width"] < 640
    pictures = visit.page.evaluate(
        """async () => { document.querySelectorAll('details').forEach(d => d.open = true);
            const all = [...document.images]; await Promise.all(all.map(i => i.decode()));
            return all.map(i => [i.naturalWidth, i.clientWidth, i.clientHeight, i.naturalHeight, i.alt,
              i.currentSrc === i.parentElement.querySelector('source').srcset]) }"""
    )
    assert len(pictures) > 8
    for natural, shown, height, natural_height, alt, is_narrow in pictures:
        assert alt
        assert is_narrow == narrow
        assert natural >= 1.2 * shown > 200
        assert height / shown == pytest.approx(natural_height / natural, rel=0.02)


def test_the_verdict_is_on_the_first_screen(visit):
    box = visit.page.locator("#verdict h2").bounding_box()
    assert box["y"] + box["height"] < 500
    assert visit.page.locator("#verdict h2").inner_text() == "Not calibrated: 5 of 6 checks pass"


def test_agreement_is_on_the_first_screen_and_leads_to_its_section(visit):
    line = visit.page.locator(".closeness")
    assert line.inner_text().startswith(
        "Agreement with the exact posterior: 33 of 42 figures within tolerance"
    )
    line.locator("a").click()
    assert visit.page.evaluate("location.hash") == "#reference"


def test_a_wide_table_fits_or_scrolls_by_itself(visit):
    tables = visit.page.locator("#reference .scroll")
    fits = [tables.nth(i).evaluate("e => e.scrollWidth <= e.clientWidth") for i in range(tables.count())]
    assert len(fits) == 8
    assert all(fits)


def test_the_navigation_leads_to_every_section(visit):
    links = visit.page.locator("nav a")
    for i in range(links.count()):
        links.nth(i).click()
        target = links.nth(i).get_attribute("href")
        visit.page.wait_for_function(
            """id => { const r = document.querySelector(id).getBoundingClientRect();
                return (r.top > -5 && r.top < 400)
                  || scrollY + innerHeight >= document.documentElement.scrollHeight - 2 }""",
            arg=target,
            timeout=5000,
        )


def test_text_is_dark_enough_to_read(visit):
    """WCAG 2.1 contrast of at least 4.5 for the page's small print."""
    ratios = visit.page.evaluate(
        """() => {
            const channel = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
            const light = c => {
              const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => channel(v / 255));
              return 0.2126 * r + 0.7152 * g + 0.0722 * b };
            const ground = e => {
              for (; e; e = e.parentElement) {
                const c = getComputedStyle(e).backgroundColor;
                if (!c.endsWith(', 0)')) return c }
              return 'rgb(255, 255, 255)' };
            const ratio = e => {
              const pair = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
              return (pair[0] + 0.05) / (pair[1] + 0.05) };
            const small = 'figcaption, caption, .sub, .chip, .muted, .tally, .score, b, nav a, td, th, li';
            return [...document.querySelectorAll(small)].map(e => [ratio(e), e.className || e.tagName]) }"""
    )
    assert len(ratios) > 50
    assert min(ratios)[0] >= 4.5, min(ratios)


def test_it_prints_with_every_picture(browser, address):
    visit = Visit(browser, address, 794)
    visit.page.emulate_media(media="print")
    hidden = visit.page.evaluate("[...document.images].filter(i => !i.checkVisibility()).length")
    assert hidden == 0
    assert visit.page.locator("nav").is_hidden()
    assert visit.page.pdf(format="A4")[:5] == b"%PDF-"
    assert visit.complaints == []
    visit.page.close()
