"""The report in a real browser: opened from a file, sorted, darkened, narrowed, printed, and silent all the while."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_results import write_results_with_answers

from labelrel.report import build_report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-browser")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: make test-browser")

ATTACK = "<script>window.hacked = 1</script></table><img src=x onerror='window.hacked = 2'>"
METHODS = "section#the-methods table"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    data = write_results_with_answers(folder / "data", question=ATTACK)
    build_report(data, folder / "report", bootstrap=100, about={"git commit": "c0ffee1"})
    return folder / "report" / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # chromium refuses to run as root with one
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield chromium
        chromium.close()


class Tab:
    """A page, and everything it complained about or asked for."""

    def __init__(self, browser: Any, report: Path, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(report.as_uri())

    def column(self, number: int, table: str = METHODS) -> list[str]:
        return self.page.locator(f"{table} tbody td:nth-child({number})").all_inner_texts()

    def close(self) -> None:
        self.context.close()


@pytest.fixture
def tab(browser: Any, report: Path) -> Iterator[Tab]:
    opened = Tab(browser, report)
    yield opened
    opened.close()


def test_page_says_nothing_and_asks_for_nothing(tab: Tab, report: Path) -> None:
    images = tab.page.locator("img.light")
    assert images.count() >= 7
    assert all(images.nth(n).evaluate("image => image.complete && image.naturalWidth > 0") for n in range(7))
    assert tab.said == []
    assert [url for url in tab.asked if not url.startswith("data:")] == [report.as_uri()]


def test_text_from_data_stays_text(tab: Tab) -> None:
    assert tab.page.get_by_text(ATTACK).count() > 0
    assert tab.page.evaluate("window.hacked") is None


def test_script_from_elsewhere_would_not_run(tab: Tab) -> None:
    tab.page.evaluate(
        "const s = document.createElement('script'); s.textContent = 'window.hacked = 3'; document.body.append(s);"
    )
    assert tab.page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in line for line in tab.said)


def test_numbers_sort_by_value_and_back(tab: Tab) -> None:
    as_it_came = tab.column(1)
    head = tab.page.locator(f"{METHODS} th").nth(4)
    press = head.get_by_role("button")
    assert press.inner_text().startswith("test accuracy")
    press.click()
    assert head.get_attribute("aria-sort") == "descending"
    assert tab.column(1) == ["ceiling", "filter", "naive", "random", "floor"]
    press.click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert tab.column(1) == ["floor", "random", "naive", "filter", "ceiling"]
    press.click()
    assert head.get_attribute("aria-sort") is None
    assert tab.column(1) == as_it_came


def test_keys_sort_and_what_is_empty_goes_last(tab: Tab) -> None:
    press = tab.page.locator(f"{METHODS} th").nth(2).get_by_role("button")  # kept: ceiling, floor and random tell none
    press.focus()
    tab.page.keyboard.press("Enter")
    assert tab.column(3) == ["1.00", "0.50", "", "", ""]
    tab.page.keyboard.press("Space")
    assert tab.column(3) == ["0.50", "1.00", "", "", ""]
    other = tab.page.locator(f"{METHODS} th").nth(0)
    other.get_by_role("button").click()
    assert tab.column(1) == sorted(tab.column(1))
    assert tab.page.locator(f"{METHODS} th[aria-sort]").count() == 1


def test_theme_turns_and_is_remembered(tab: Tab) -> None:
    def look() -> tuple[str, str]:
        ground = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
        shown = "dark" if tab.page.locator("img.dark").first.is_visible() else "light"
        assert tab.page.locator(f"img.{'light' if shown == 'dark' else 'dark'}").first.is_hidden()
        return ground, shown

    button = tab.page.locator("#theme")
    assert look() == ("rgb(255, 255, 255)", "light")
    assert button.inner_text() == "Dark theme"
    button.click()
    assert look() == ("rgb(22, 26, 32)", "dark")
    tab.page.reload()
    assert look() == ("rgb(22, 26, 32)", "dark")
    assert button.inner_text() == "Light theme"
    button.click()
    assert look() == ("rgb(255, 255, 255)", "light")
    assert tab.said == []


def test_without_script_it_is_a_plain_page_in_the_theme_of_the_system(browser: Any, report: Path) -> None:
    plain = Tab(browser, report, java_script_enabled=False, color_scheme="dark")
    assert plain.page.locator("th button").count() == 0
    assert plain.page.locator("#theme").is_hidden()
    assert plain.column(1) == ["floor", "filter", "naive", "random", "ceiling"]
    assert plain.page.locator("img.dark").first.is_visible()
    plain.close()


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_page_is_never_wider_than_the_screen(browser: Any, report: Path, width: int) -> None:
    narrow = Tab(browser, report, viewport={"width": width, "height": 800})
    narrow.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert narrow.page.evaluate("document.documentElement.scrollWidth") <= width
    narrow.close()


def test_print_is_light_whole_and_unfolded(tab: Tab) -> None:
    tab.page.locator("#theme").click()
    tab.page.emulate_media(media="print")
    tab.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.page.locator("img.light").first.is_visible()
    assert tab.page.locator("#theme").is_hidden()
    assert tab.page.locator("details:not([open])").count() == 0
    tab.page.set_viewport_size({"width": 688, "height": 971})  # A4 within its margins
    cut = "[...document.querySelectorAll('.wide')].filter(one => one.scrollWidth > one.clientWidth + 1)"
    assert tab.page.evaluate(f"{cut}.map(one => one.ariaLabel)") == []
    tab.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.page.locator("details[open]").count() == 0
