"""`cnntrain serve`: its page, in a real browser."""

import base64
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from browser import console_errors, open_browser, set_theme, set_width
from PIL import Image
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from serving import DIGIT, encoded, noise, post, serving, unfold
from serving import trained as trained
from serving import url as url

from cnntrain.trained import Trained

ODD = ("<b>bold</b>", "a \"quoted\" & 'single'", "héron 鷺", "</script><script>alert(1)</script>")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with open_browser(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


def text(browser: Chrome, name: str) -> str:
    return str(browser.find_element(By.ID, name).text)


def show(browser: Chrome, file: Path) -> None:
    """Chooses a file in the page, and waits for what comes of it."""
    browser.execute_script("document.getElementById('map').removeAttribute('src')")
    browser.find_element(By.ID, "file").send_keys(str(file))
    WebDriverWait(browser, 20).until(
        lambda _: browser.find_element(By.ID, "map").get_attribute("src") or text(browser, "error")
    )


@pytest.fixture
def digit(tmp_path: Path) -> Path:
    path = tmp_path / "eine <b>Sieben ü.png"
    path.write_bytes(DIGIT)
    return path


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_an_image_chosen_in_the_page_is_answered_in_it(
    browser: Chrome, url: str, digit: Path, width: int, theme: str
) -> None:
    set_width(browser, width)
    set_theme(browser, theme)
    browser.get(url)
    assert not browser.find_element(By.ID, "answer").is_displayed()
    assert (
        "93" in browser.find_element(By.TAG_NAME, "main").text or "%" in browser.find_element(By.TAG_NAME, "main").text
    )
    show(browser, digit)
    expected = post(url, query="?top=10&map=1").json()
    rows = [
        button.text.replace("\u00a0", " ").split("\n")
        for button in browser.find_elements(By.CSS_SELECTOR, "#classes button")
    ]
    assert rows == [[item["class"], f"{100 * item['probability']:.2f} %"] for item in expected["predictions"]]
    assert text(browser, "says").replace("\u00a0", " ") == ", ".join(rows[0])
    assert text(browser, "photo-says") == digit.name
    assert browser.find_element(By.ID, "map").get_attribute("src") == expected["activation_map"]
    for name in ("photo", "map"):
        assert browser.execute_script("return document.getElementById(arguments[0]).naturalWidth", name) > 0
    bars = [bar.size["width"] for bar in browser.find_elements(By.CSS_SELECTOR, ".bar")]
    assert bars == sorted(bars, reverse=True)
    assert bars[0] > bars[-1]
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") is (theme == "light")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width  # nothing to scroll sideways
    assert not console_errors(browser)


def test_another_class_shows_its_map_by_mouse_and_by_keyboard(browser: Chrome, url: str, digit: Path) -> None:
    set_width(browser, 1280)
    browser.get(url)
    show(browser, digit)
    for place, act in ((3, "click"), (5, "key")):
        button = browser.find_elements(By.CSS_SELECTOR, "#classes button")[place]
        name = button.find_element(By.CLASS_NAME, "name").text
        button.click() if act == "click" else button.send_keys(Keys.ENTER)
        WebDriverWait(browser, 20).until(lambda _, button=button: button.get_attribute("aria-pressed") == "true")
        expected = post(url, query=f"?map_class={name}").json()["activation_map"]
        assert browser.find_element(By.ID, "map").get_attribute("src") == expected
        assert f"“{name}”" in text(browser, "map-says")
        assert len(browser.find_elements(By.CSS_SELECTOR, "[aria-pressed=true]")) == 1
        assert browser.switch_to.active_element == button  # who uses the keyboard goes on from there
    assert not console_errors(browser)


def test_everything_in_the_page_has_a_name_and_is_reached_by_tab(browser: Chrome, url: str, digit: Path) -> None:
    browser.get(url)
    show(browser, digit)
    for control in browser.find_elements(By.CSS_SELECTOR, "input, button, img, summary"):
        if control.is_displayed():
            assert control.accessible_name, control.get_attribute("outerHTML")
    assert browser.find_element(By.ID, "says").aria_role == "status"
    assert browser.find_element(By.ID, "error").aria_role == "alert"
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert browser.switch_to.active_element.get_attribute("id") == "file"


def test_mistakes_are_told_in_the_page(browser: Chrome, url: str, tmp_path: Path, digit: Path) -> None:
    browser.get(url)
    large, fake = tmp_path / "large.png", tmp_path / "fake.png"
    large.write_bytes(bytes(2**20 + 9))
    fake.write_text("<script>alert(1)</script>")
    show(browser, large)
    assert text(browser, "error") == "large.png has 1.0 MiB; at most 1 MiB are taken."
    show(browser, fake)
    assert text(browser, "error").startswith("the file sent: not an image (JPEG, PNG")
    assert not browser.find_element(By.ID, "answer").is_displayed()
    show(browser, digit)
    assert text(browser, "error") == ""
    assert browser.find_element(By.ID, "answer").is_displayed()
    assert all("422" in message for message in console_errors(browser))  # Chromium notes every refusal


DROP = """
const files = new DataTransfer();
if (arguments[1]) files.items.add(new File([Uint8Array.from(atob(arguments[1]), c => c.charCodeAt(0))], "given.png", {type: "image/png"}));
const event = arguments[0] === "drop" ? new DragEvent("drop", {dataTransfer: files, cancelable: true, bubbles: true})
                                      : new ClipboardEvent("paste", {clipboardData: files, bubbles: true});
document.body.dispatchEvent(event);
"""


@pytest.mark.parametrize(
    ("way", "message"), [("drop", "That was no file."), ("paste", "The clipboard holds no image.")]
)
def test_an_image_can_be_dropped_and_pasted(browser: Chrome, url: str, way: str, message: str) -> None:
    browser.get(url)
    browser.execute_script(DROP, way, None)
    assert text(browser, "error").startswith(message)
    browser.execute_script(DROP, way, base64.b64encode(DIGIT).decode())
    WebDriverWait(browser, 20).until(lambda _: text(browser, "photo-says") == "given.png")
    assert text(browser, "error") == ""


def test_an_image_that_the_browser_cannot_show_is_answered(browser: Chrome, url: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tiff"
    path.write_bytes(encoded(Image.fromarray(noise(20, 20)), "TIFF"))
    browser.get(url)
    show(browser, path)
    WebDriverWait(browser, 20).until(lambda _: not browser.find_element(By.ID, "photo").is_displayed())
    assert "%" in text(browser, "says")


def test_a_server_that_is_gone_is_told_in_the_page(browser: Chrome, trained: Trained, digit: Path) -> None:
    with serving(trained) as address:
        browser.get(address)
    show(browser, digit)
    assert text(browser, "error").startswith("No answer came. Is cnntrain serve still running")
    console_errors(browser)


@pytest.fixture
def many_classes(trained: Trained) -> Trained:
    """A network with a hundred classes, some of which have odd names."""
    from dataclasses import replace

    names = (*ODD, *(f"class {number}" for number in range(100 - len(ODD))))
    header = replace(trained.header, class_names=names)
    return Trained(header.build_network().eval(), header, trained.path)


def test_a_hundred_classes_with_odd_names_are_shown_as_they_are(
    browser: Chrome, many_classes: Trained, digit: Path
) -> None:
    set_width(browser, 390)
    with serving(many_classes) as address:
        page = httpx.get(address).text
        assert "<b>bold" not in page
        assert "<script>alert" not in page
        for name in ODD:
            answer = httpx.post(f"{address}/predict", params={"map_class": name}, files={"image": DIGIT})
            assert answer.status_code == 200, answer.text
        browser.get(address)
        show(browser, digit)
        assert len(text(browser, "classes").splitlines()) == 2 * 10
        browser.find_element(By.ID, "more").click()
        lines = text(browser, "classes").splitlines()
        assert len(lines) == 2 * 100
        assert set(ODD) <= set(lines)
        assert not browser.find_elements(By.CSS_SELECTOR, "#classes b, figcaption b")
        odd = browser.find_elements(By.CSS_SELECTOR, "#classes button")[lines.index(ODD[0]) // 2]
        odd.click()
        WebDriverWait(browser, 20).until(lambda _: odd.get_attribute("aria-pressed") == "true")
        assert ODD[0] in text(browser, "map-says")
    assert not console_errors(browser)


def test_a_real_photo_is_answered_in_the_page(
    browser: Chrome, trained: Trained, real_data: Path, tmp_path: Path
) -> None:
    photo = sorted((real_data / "hymenoptera/train/ants").iterdir())[0]
    with serving(trained) as address:
        browser.get(address)
        show(browser, photo)
        assert text(browser, "photo-says") == photo.name
        assert unfold(browser.find_element(By.ID, "map").get_attribute("src")).size >= (224, 224)
    assert not console_errors(browser)
