import os

import pytest
import torch

from dynbackbones.checkpoints import local_file
from dynbackbones.checkpoints.download import cached_path
from dynbackbones.errors import UserError
from tests.messages import naming


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def test_paths_stay_as_they_are(tmp_path):
    assert local_file("a/b.pth") == "a/b.pth"
    assert local_file(tmp_path / "none.pth") == os.fspath(tmp_path / "none.pth")


def test_unknown_places_are_refused():
    with pytest.raises(UserError, match=naming("open-mmlab://", "https://")):
        local_file("open-mmlab://resnet50")
    with pytest.raises(UserError, match=naming("resnet51", "resnet50")):
        local_file("torchvision://resnet51")


def test_a_failed_download_names_the_url(monkeypatch):
    def download(url, path, progress):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    url = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    with pytest.raises(UserError, match=naming(url, "no route to host", "by hand")):
        local_file("torchvision://resnet18")


@pytest.mark.parametrize("terminal", [True, False])
def test_downloads_are_kept_and_show_progress_on_a_terminal(monkeypatch, cache, terminal):
    calls = []

    def download(url, path, progress):
        calls.append((url, progress))
        torch.save({}, path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    url = "https://example.org/weights/net.pth?raw=true"
    assert local_file(url) == local_file(url) == str(cache / "net.pth")
    assert calls == [(url, terminal)]
    assert cached_path(url) == cache / "net.pth"


def test_urls_with_one_name_have_files_of_their_own(monkeypatch, cache):
    def download(url, path, progress):
        torch.save({"from": url}, path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    urls = [f"https://example.org/{run}/net.pth" for run in "abc"]
    for _ in range(2):
        for url in urls:
            assert torch.load(local_file(url)) == {"from": url}
    assert len(list(cache.glob("net*.pth"))) == 3


@pytest.mark.parametrize(("name", "said"), [("net.pth", True), ("resnet18-f37072fd.pth", False)])
def test_a_file_of_unknown_origin_is_taken_with_a_word(cache, caplog, name, said):
    cache.mkdir(parents=True)
    (cache / name).touch()
    url = f"https://example.org/{name}"
    assert local_file(url) == str(cache / name)
    assert [url in record.getMessage() for record in caplog.records] == [True] * said
