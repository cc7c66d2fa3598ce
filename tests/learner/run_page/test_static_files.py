import pytest

from learner.run_page.static_files import INDEX, STATIC, static_file


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "static"
    (folder / "vendor").mkdir(parents=True)
    (folder / "page.js").write_text("1")
    (folder / "vendor" / "chart.min.css").write_text("2")
    (folder / ".hidden.js").write_text("3")
    (folder / "LICENSE").write_text("4")
    (tmp_path / "secret.js").write_text("5")
    (folder / "link.js").symlink_to(tmp_path / "secret.js")
    (folder / "folder.js").mkdir()
    return folder


def test_files_have_the_type_of_their_name(folder):
    assert static_file("page.js", folder) == (b"1", "text/javascript; charset=utf-8")
    assert static_file("vendor/chart.min.css", folder) == (b"2", "text/css; charset=utf-8")


@pytest.mark.parametrize(
    "name",
    [
        "../secret.js",
        "vendor/../../secret.js",
        "vendor/../page.js",
        "/etc/passwd",
        "//page.js",
        "..\\secret.js",
        ".hidden.js",
        "link.js",
        "folder.js",
        "LICENSE",
        "vendor",
        "vendor/",
        "",
        "page.js/",
        "page.js\0",
        "C:page.js",
        "x" * 5000 + ".js",
        "\ud800.js",
    ],
)
def test_nothing_else_is_served(folder, name):
    assert static_file(name, folder) is None


def test_the_page_itself_is_there():
    found = static_file(INDEX)
    assert found is not None
    assert found[1] == "text/html; charset=utf-8"
    assert (STATIC / INDEX).read_bytes() == found[0]
