"""Images of any depth, turned, damaged, huge or none."""

import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from dynbackbones.data.images import (
    check_header,
    cv2_name,
    image_files,
    read_image,
    turned_size,
)
from dynbackbones.errors import UserError
from tests.fuzzing import fuzz
from tests.messages import naming


def test_an_image_is_read_as_rgb_and_upright(tmp_path):
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    image = read_image(tmp_path / "grey.png")
    assert image.mode == "RGB"
    assert (np.asarray(image) == pixels[..., None]).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    turned = read_image(tmp_path / "turned.png")
    assert (np.asarray(turned)[..., 0] == np.rot90(pixels, -1)).all()


@pytest.mark.parametrize("kept", [0, 20, 0.5])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_damaged_image_is_named(tmp_path, kept, suffix):
    path = tmp_path / f"image.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: kept if isinstance(kept, int) else int(kept * len(data))])
    with pytest.raises(UserError, match=naming(path, "truncated")) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_an_image_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=naming(tmp_path / "none.jpg", "exist")):
        read_image(tmp_path / "none.jpg")


def grey(path, top=65535, dtype=np.uint16, **options):
    """A ramp from 0 to a value."""
    values = np.linspace(0, top, 64 * 48).reshape(48, 64).astype(dtype)
    Image.fromarray(values).save(path, **options)
    return path, values


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
@pytest.mark.parametrize("turned", [False, True])
def test_the_upper_bits_of_16_count(tmp_path, suffix, turned):
    exif = Image.Exif()
    exif[0x0112] = 3
    options = {"exif": exif} if turned and suffix != "pgm" else {}
    path, values = grey(tmp_path / f"a.{suffix}", **options)
    image = read_image(path)
    assert image.mode == "RGB"
    expected = (values >> 8)[::-1, ::-1] if options else values >> 8
    assert (np.asarray(image) == expected[..., None]).all()


def tiff_of_12_bits(path, values):
    """A TIFF of two samples in three bytes."""
    height, width = values.shape
    pairs = values.reshape(-1, 2).astype(int)
    data = np.stack(
        [pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1
    ).astype(np.uint8).tobytes()  # fmt: skip
    tags = [(256, width), (257, height), (258, 12), (259, 1), (262, 1), (273, 0), (277, 1),
            (278, height), (279, len(data))]  # fmt: skip
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", t, 4, 1, start if t == 273 else v) for t, v in tags)
    header = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    path.write_bytes(header + entries + struct.pack("<I", 0) + data)


def test_a_file_that_says_12_bits_is_read_so(tmp_path):
    values = np.linspace(0, 4095, 64 * 48).reshape(48, 64).astype(np.uint16)
    tiff_of_12_bits(tmp_path / "a.tif", values)
    with Image.open(tmp_path / "a.tif") as image:
        assert (np.asarray(image) == values).all()
    assert (np.asarray(read_image(tmp_path / "a.tif")) == (values >> 4)[..., None]).all()


@pytest.mark.parametrize(
    ("suffix", "top", "dtype", "word"),
    [
        ("png", 4095, np.uint16, 4095),
        ("tif", 1023, np.uint16, 1023),
        ("png", 255, np.uint16, 255),
        ("tif", 2**31 - 1, np.int32, 32),
        ("tif", 255, np.int32, 32),
        ("tif", 1.0, np.float32, 32),
    ],
)
def test_depths_that_nothing_says_how_to_show_are_refused(tmp_path, suffix, top, dtype, word):
    path, _ = grey(tmp_path / f"a.{suffix}", top, dtype)
    with pytest.raises(UserError, match=naming(path, word, "8 bits")):
        read_image(path)


def test_a_black_image_is_black_at_any_depth(tmp_path):
    path, _ = grey(tmp_path / "a.png", 0)
    assert np.asarray(read_image(path)).max() == 0


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr", "PA"])
def test_every_mode_of_8_bits_is_read_as_pillow_converts_it(tmp_path, mode):
    noise = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    image = Image.fromarray(noise).convert(mode)
    image.save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as saved:
        assert (
            np.asarray(read_image(tmp_path / "a.tif")) == np.asarray(saved.convert("RGB"))
        ).all()


def bomb(path, side=40_000):
    """A PNG of a few kilobytes that unpacks to gigabytes."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(10_000_000), 9)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def test_an_image_of_gigabytes_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "a.png"
    bomb(path)
    for read in (read_image, check_header):
        with pytest.raises(UserError, match=naming(path, path.stat().st_size, 1600000000)):
            read(path)


def test_no_reader_that_starts_a_program_is_used(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with Image.open(path) as image:
        assert image.format == "EPS"
    with pytest.raises(UserError, match=naming(path, "not an image")):
        read_image(path)


def test_the_size_that_annotations_say(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (12, 8)).save(path)
    assert read_image(path, (12, 8)).size == (12, 8)
    with pytest.raises(UserError, match=naming(path, "12 x 8", "8 x 12", "annotation file")) as e:
        read_image(path, (8, 12))
    assert "EXIF" not in str(e.value)


def test_a_size_of_the_unturned_image_names_exif(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.jpg"
    Image.new("RGB", (12, 8)).save(path, exif=exif)
    assert read_image(path, (8, 12)).size == (8, 12)
    with pytest.raises(UserError, match=naming(path, "EXIF", "exiftool", "annotate", "12 x 8")):
        read_image(path, (12, 8))
    assert turned_size(path) == (12, 8)
    Image.new("RGB", (12, 8)).save(path)
    assert turned_size(path) is None
    assert turned_size(tmp_path / "none.jpg") is None


def test_a_header_tells_what_other_readers_would_cut_off(tmp_path):
    path, _ = grey(tmp_path / "a.png")
    with pytest.raises(UserError, match=naming(path, "16 bits", "8 bits")):
        check_header(path)
    Image.new("RGB", (12, 8)).save(path)
    check_header(path)
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match=naming(path, "not an image")):
        check_header(path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of metadata
@fuzz(60)
@given(st.data())
def test_any_bytes_are_an_image_or_refused_by_name(tmp_path, data):
    path = tmp_path / "a.bin"
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM"]))
    mode = data.draw(st.sampled_from(["L", "RGB"] + ["I;16"] * (kind in ("PNG", "TIFF"))))
    noise = np.random.default_rng(0).integers(0, 2 if mode == "L" else 256, (9, 7, 3), np.uint8)
    image = Image.fromarray(noise)
    Image.new(mode, (9, 7)).save(path, kind) if mode == "I;16" else image.convert(mode).save(
        path, kind
    )
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 6))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        read = read_image(path)
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return
    assert read.mode == "RGB"
    with Image.open(path) as plain:
        assert read.size == ImageOps.exif_transpose(plain).size


def test_images_of_a_folder_are_found_by_the_rule_of_class_folders(tmp_path):
    names = ("b/2.PNG", "a.jpg", "notes.txt", "c.pdf", ".d.jpg", ".git/e.jpg", "__MACOSX/f.jpg")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "g.jpg").mkdir()
    assert image_files(tmp_path) == ["a.jpg", "b/2.PNG"]
    with pytest.raises(UserError, match=naming(tmp_path / ".git/none", "exist")):
        image_files(tmp_path / ".git/none")
    with pytest.raises(UserError, match=naming(tmp_path / "g.jpg", ".png")):
        image_files(tmp_path / "g.jpg")


def test_names_at_which_opencv_ends_the_process_are_refused(tmp_path):
    assert cv2_name(tmp_path / "\u00fc.png") == str(tmp_path / "\u00fc.png")
    name = os.fsdecode(b"a\xff.png")
    with pytest.raises(UserError, match=naming(repr(str(tmp_path / name)), "UTF-8", "rename")):
        cv2_name(tmp_path / name)
