"""Pages in a real browser: two widths, two themes, nothing that fails."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import console_errors, open_browser, set_theme, set_width
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.print_page_options import PrintOptions
from test_report import reported as reported  # the fixture

from cnntrain.reports.compare import compare_runs


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with open_browser(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


@pytest.fixture(scope="module")
def pages(reported: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    comparison = tmp_path_factory.mktemp("compared") / "comparison.html"
    compare_runs([reported, reported], comparison)
    return {"report": reported / "report.html", "comparison": comparison}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("page", ["report", "comparison"])
def test_pages_fit_and_are_seen(browser: Chrome, pages: dict[str, Path], page: str, width: int, theme: str) -> None:
    set_theme(browser, theme)
    set_width(browser, width)
    browser.get(pages[page].as_uri())
    assert console_errors(browser) == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.find_element(By.TAG_NAME, "h1").is_displayed()
    unseen = "return [...document.images].filter(i => !(i.complete && i.naturalWidth > 0 && i.alt)).length"
    assert browser.execute_script(unseen) == 0
    flat = "return [...document.querySelectorAll('svg')].filter(s => s.getBoundingClientRect().height < 100).length"
    assert browser.execute_script(flat) == 0
    assert contrast(browser, "h1") > 7
    assert contrast(browser, ".verdict li, .verdict p") > 4.5
    assert contrast(browser, ".soft") > 4.5


def test_charts_are_drawn_in_the_ink_of_the_theme(browser: Chrome, pages: dict[str, Path]) -> None:
    inks = []
    for theme in ("light", "dark"):
        set_theme(browser, theme)
        browser.get(pages["report"].as_uri())
        label = browser.find_element(By.CSS_SELECTOR, ".chart svg text")
        inks.append(label.value_of_css_property("fill"))
    assert inks[0] != inks[1]


def test_a_report_prints_on_pages(browser: Chrome, pages: dict[str, Path]) -> None:
    set_theme(browser, "light")
    browser.get(pages["report"].as_uri())
    printed = browser.print_page(PrintOptions())
    assert len(printed) > 100_000  # base64 of a PDF with its pictures


def contrast(browser: Chrome, selector: str) -> float:
    """The contrast of a text with the page behind it, as WCAG 2.1 defines it: 1 to 21."""
    colours = browser.execute_script(
        "const e = document.querySelector(arguments[0]);"
        "let b = e, back = 'rgba(0, 0, 0, 0)';"
        "while (b && back === 'rgba(0, 0, 0, 0)') { back = getComputedStyle(b).backgroundColor; b = b.parentElement; }"
        "return [getComputedStyle(e).color, back].map(c => c.match(/[0-9.]+/g).slice(0, 3).map(Number));",
        selector,
    )
    light, dark = sorted((luminance(colour) for colour in colours), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: list[float]) -> float:
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
