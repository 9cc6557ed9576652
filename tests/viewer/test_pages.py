"""Pages from templates: values are escaped, and static pages have addresses of their own."""

from closedloop.viewer.pages import environment, render_text


def test_what_stands_in_a_page_is_escaped():
    page = render_text("error.html", message="<script>x</script>", status=404, path="/")
    assert "&lt;script&gt;x" in page
    assert "<script>x" not in page


def test_a_folder_of_files_has_its_own_addresses():
    page = render_text("error.html", message="m", status=404, path="/", static=lambda name: f"files/{name}", root="./")
    assert 'href="files/css/base.css"' in page
    assert 'href="/' not in page


def test_there_is_one_environment():
    assert environment() is environment()
