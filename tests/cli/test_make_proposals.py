import numpy as np
import pytest
from PIL import Image

from dynbackbones.cli.make_proposals import main
from dynbackbones.data.proposals_file import read_proposals
from dynbackbones.errors import UserError
from tests.messages import naming


@pytest.fixture
def folder(tmp_path):
    for name, left in (("a.png", 20), ("more/b.png", 60)):
        image = np.full((96, 128, 3), 90, np.uint8)
        image[24:72, left : left + 40] = 240
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "images" / name)
    (tmp_path / "images" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return tmp_path / "images"


@pytest.mark.parametrize("method", ["edges", "random"])
def test_a_folder_becomes_a_file_and_a_picture(folder, tmp_path, capsys, method):
    output, picture = tmp_path / "boxes.json", tmp_path / "new" / "boxes.png"
    arguments = [folder, "-o", output, "--picture", picture, "--method", method, "--count", 3]
    main([*map(str, arguments), "--size", "32"])
    found = read_proposals(output, folder)
    assert list(found) == ["a.png", "more/b.png"]
    assert 1 <= len(found["a.png"].boxes) <= 3
    printed = capsys.readouterr()
    assert "2 images" in printed.out and "cut.png" in printed.err
    with Image.open(picture) as drawn:
        assert (np.asarray(drawn) == [255, 0, 0]).all(axis=2).any()
    if method == "random":
        main([*map(str, arguments), "--size", "32", "--overwrite"])
        again = read_proposals(output, folder)
        assert all(np.array_equal(again[name].boxes, found[name].boxes) for name in found)


def test_nothing_is_overwritten_unasked(folder, tmp_path):
    (tmp_path / "boxes.json").write_text("mine")
    with pytest.raises(UserError, match=naming("boxes.json", "--overwrite")):
        main([str(folder), "-o", str(tmp_path / "boxes.json")])
    assert (tmp_path / "boxes.json").read_text() == "mine"
    with pytest.raises(UserError, match=naming("boxes.txt", ".json")):
        main([str(folder), "-o", str(tmp_path / "boxes.txt")])


def test_no_image_and_no_box_are_named(folder, tmp_path):
    output = ["-o", str(tmp_path / "boxes.json")]
    with pytest.raises(UserError, match=naming("nowhere")):
        main([str(tmp_path / "nowhere"), *output])
    with pytest.raises(UserError, match=naming("--max-aspect", "0.5")):
        main([str(folder), *output, "--max-aspect", "0.5"])
    for file in folder.rglob("?.png"):
        Image.new("RGB", (64, 64)).save(file)
    with pytest.raises(UserError, match=naming("cut.png")):
        main([str(folder), *output])
    (folder / "cut.png").unlink()
    with pytest.raises(UserError, match=naming("--method random")):
        main([str(folder), *output])
    assert not (tmp_path / "boxes.json").exists()
