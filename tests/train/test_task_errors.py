"""What cannot be a task of a generator is refused in a sentence that says why."""

import pytest
import torch
from torch import nn

import gfx
from gfx.errors import InputError
from gfx.train import tasks
from gfx.train.feeding import Loader
from gfx.train.tasks import open_task
from support.map_pictures import map_folder
from support.picture_folders import write_pictures
from support.task_generators import conditional, editor
from support.task_kinds import images


def refused(match, *args, **options):
    with pytest.raises(InputError, match=match):
        open_task(*args, **options)


def test_unmatched_pairs_are_named(tmp_path, translator):
    write_pictures(tmp_path / "A", [f"{n}.png" for n in range(9)])
    write_pictures(tmp_path / "B", ["0.png", "x.png"])
    refused(
        r"9 of 11 pictures .* no partner of the same name: A/1, A/2, A/3, A/4, A/5 and 4 more; .*"
        r"unpaired",
        tmp_path,
        translator,
    )


@pytest.mark.parametrize("options", [{}, {"size": 8}, {"crop": 8}])
def test_pairs_of_other_sizes_are_named(tmp_path, translator, options):
    for name in ("A", "B"):
        write_pictures(tmp_path / name, 3)
    write_pictures(tmp_path / "B", ["02.png"], (9, 8))
    match = r"1 of 3 pairs are not of one size .*: 02\.png 8x8 and 8x9; input and target"
    refused(match, tmp_path, translator, **options)


@pytest.mark.parametrize("task", ["latent", "class", "labels", "super_resolution"])
def test_a_task_that_the_generator_is_not_for_is_refused(tmp_path, translator, task):
    match = rf"takes 1x3x8x8, and makes 3x8x8; for the task {task} it has to take"
    refused(match, write_pictures(tmp_path), translator, task=task)
    refused(match, images(4), translator, task=task)


def test_a_task_of_another_name_is_refused(translator):
    match = "task='self', and data is of the task paired; leave task out"
    refused(match, tasks.paired(images(4), images(4)), translator, task="self")


def test_two_partners_of_one_name_are_named(tmp_path, translator):
    write_pictures(tmp_path / "A", ["1.png", "1.bmp"])
    write_pictures(tmp_path / "B", ["1.png"])
    refused(r"A holds several pictures of one name but for the suffix: 1;", tmp_path, translator)


def test_one_class_alone_is_refused(tmp_path):
    write_pictures(tmp_path / "cat")
    refused(
        r"holds one class only, cat/; the task class takes at least two", tmp_path, conditional()
    )
    data = [(image, 0) for image in images(4)]
    refused(r"one class only \(0\); the task class takes at least two", data, conditional())


@pytest.mark.parametrize("sizes", [{"crop": 16}, {"size": 16}, {"size": 9, "crop": 9}])
def test_pictures_smaller_than_the_crop_are_named(tmp_path, translator, sizes):
    write_pictures(tmp_path, ["big.png"], (32, 32))
    write_pictures(tmp_path, ["a.png", "b.png"], (8, 7))
    refused(
        r"2 of 3 pictures are smaller than the crop \d+x\d+ .*: a\.png 7x8, b\.png 7x8; "
        r".*a smaller crop",
        tmp_path,
        translator,
        **sizes,
    )


def test_images_of_a_tensor_smaller_than_the_crop_are_refused(translator):
    refused(
        r"example 0 is 8 wide and 8 high, smaller than the crop 9x9", images(4), translator, crop=9
    )


def test_pictures_too_small_for_what_is_made_are_named(tmp_path, dcgan):
    write_pictures(tmp_path, ["a.png"], (8, 6))
    refused(r"smaller than the crop 8x8 .*: a\.png 6x8", tmp_path, dcgan)


@pytest.mark.parametrize("task", ["paired", "unpaired", "class", "labels"])
def test_a_wrong_layout_shows_what_is_understood_and_what_was_found(tmp_path, task):
    programs = {"class": conditional(), "labels": editor(2)}
    program = programs.get(task) or editor(2)
    write_pictures(tmp_path, ["a.png", "b.png"])
    (tmp_path / "notes.md").write_text("x")
    refused(
        rf"is no data for the task {task}; it holds 2 pictures \(a\.png, b\.png\), 1 other file "
        r"\(notes\.md\)\nunderstood are:\n  paired .*A\|B(.|\n)*one folder a class",
        tmp_path,
        program,
        task=task,
    )


def test_a_folder_without_pictures_is_refused(tmp_path, translator):
    (tmp_path / "empty").mkdir()
    refused(
        r"holds no pictures; it holds 1 folder \(empty/\)\nunderstood are:", tmp_path, translator
    )
    refused(r"is no folder: it does not exist", tmp_path / "none", translator)


def test_folders_to_judge_with_of_another_layout_are_refused(tmp_path, translator):
    for name in ("train/A", "train/B", "val/x", "val/y"):
        write_pictures(tmp_path / name, 2)
    refused(
        r"train holds A/ and B/, but .*val holds 2 classes: x/, y/; both are to be alike",
        tmp_path,
        translator,
    )


def test_other_classes_to_judge_with_are_refused(tmp_path):
    for name in ("train/a", "train/b", "train/c", "val/a", "val/c"):
        write_pictures(tmp_path / name, 2)
    refused(r"train has the labels a, b, c, and .*val a, c; both", tmp_path, conditional())


def test_a_broken_file_is_named(tmp_path, translator):
    write_pictures(tmp_path, 3)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    refused(r"1 of 4 pictures of .* cannot be read: broken\.png; remove", tmp_path, translator)


@pytest.mark.parametrize("what", ["changed", "gone", "truncated"])
def test_data_that_is_being_written_to_is_named(tmp_path, translator, what):
    write_pictures(tmp_path, 6)
    loader = Loader(open_task(tmp_path, translator, val=0), 2)
    for path in tmp_path.iterdir():
        if what == "gone":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:40] + b"x" * (what == "changed"))
    verb = "gone" if what == "gone" else "changed"
    with pytest.raises(InputError, match=rf"\d\d\.png has {verb} since the folder was listed: the"):
        next(loader.stream(3))


def test_a_picture_truncated_before_the_run_is_named_at_its_step(tmp_path, translator):
    path = write_pictures(tmp_path, 1, (64, 64)) / "00.png"
    path.write_bytes(path.read_bytes()[:500])
    refused(r"00\.png cannot be read as an image", tmp_path, translator, size=8)


def test_items_of_other_shapes_are_refused(translator):
    data = [torch.zeros(3, 8, 8), torch.zeros(3, 8, 9)]
    task = open_task(data, translator)
    with pytest.raises(
        InputError, match=r"differ in shape: x0 is 3x8x[89] and 3x8x[89]; give size="
    ):
        Loader(task, 2).at(0)


def test_pictures_of_other_sizes_are_refused_without_a_size(tmp_path):
    write_pictures(tmp_path, ["a.png"])
    write_pictures(tmp_path, ["b.png"], (8, 9))
    with pytest.raises(InputError, match=r"of 2 sizes: a\.png 8x8, b\.png 9x8; give size="):
        tasks.inputs(tmp_path)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("file,a,b\nx.png,1,0\ny.png,0,1\n", r"2 of 2 pictures have no row .*named x\.png, y\.png"),
        ("file,a,b\n00.png,1,37\n01.png,0,1\n", r"b of 00\.png is '37'; attributes are 0 and 1"),
        ("file,a,b\n00.png,1\n01.png,0,1\n", r"row 1 \(00\.png\) has 2 columns, and the header 3"),
        ("file,a,b\n", r"is no table of attributes; write a header"),
        ("", r"is no table of attributes; write a header"),
        (
            "file,a,b,c\n00.png,1,0,0\n01.png,0,1,0\n",
            r"has 3 attributes, and .* takes 2: .*=\['a', 'b'\]",
        ),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, text, match):
    write_pictures(tmp_path, 2)
    (tmp_path / "labels.csv").write_text(text)
    refused(match, tmp_path, editor(2))


def test_an_unknown_attribute_is_named(tmp_path):
    write_pictures(tmp_path, 1)
    (tmp_path / "labels.csv").write_text("file,young,bald\n00.png,1,0")
    refused(
        r"no attribute 'yuong'; did you mean 'young'\?", tmp_path, editor(1), attributes=["yuong"]
    )


def test_labels_that_are_not_there_are_missed(translator):
    data = [(images(1)[0], images(1)[0]), (images(1)[0],)]
    with pytest.raises(InputError, match="example 1 has no target; pairs are"):
        Loader(open_task(data, translator), 2).at(0)
    refused(
        r"example 0 has no label; give labels, or a Dataset", images(4), conditional(), task="class"
    )
    refused(
        r"an example of the data is one image, and pairs are two",
        images(4),
        translator,
        task="paired",
    )
    refused(
        r"labels=0\.5 keeps a share of the targets, and the task self",
        images(4),
        translator,
        labels=0.5,
    )
    with pytest.raises(InputError, match="there are 4 images and 3 labels; give one for each"):
        tasks.labelled(images(4), [0, 1, 2], z=4)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (images(4, channels=1), r"gives the generator 1x1x8x8, and it takes 1x3x8x8: the channels"),
        ((images(4), images(4, channels=1)), r"have 1 channels, and the generator makes 3"),
        ((images(4), images(4, size=7)), r"input and target are 8x8 and 7x7"),
        (tasks.latent(images(4), 5), r"gives the generator 1x5, and it takes 1x3x8x8"),
        (7, r"data is a int; give a folder, a tensor"),
        ([], r"data is empty; give at least one example"),
        (["a"], r"example 0 holds a str; inputs are tensors"),
    ],
)
def test_images_that_do_not_fit_the_generator_are_refused(translator, data, match):
    refused(match, data, translator)


def test_a_map_of_labels_that_is_none_is_named(tmp_path):
    program = gfx.trace(nn.Conv2d(7, 3, 1), torch.zeros(1, 7, 8, 8))
    refused(
        r"00\.png holds the label 255, and the generator takes 7, from 0 to 6",
        map_folder(tmp_path / "a", [255]),
        program,
    )
    refused(
        r"00\.png is in colours \(RGB\), and the generator takes maps of 7 labels",
        map_folder(tmp_path / "b", [1], "RGB"),
        program,
    )


def test_more_channels_than_pictures_have_are_refused(tmp_path):
    program = gfx.trace(nn.Conv2d(7, 3, 1), torch.zeros(1, 7, 8, 8))
    refused(
        r"images of 7 channels, and pictures of files have 1, 3 or 4",
        write_pictures(tmp_path),
        program,
    )


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"task": "piared"}, r"there is no task 'piared'; did you mean 'paired'\?"),
        ({"labels": 0}, r"labels=0 must be above 0 and at most 1"),
        ({"val": 1}, r"val=1 must be at least 0 and below 1"),
        ({"size": 8}, r"size=8 scales pictures of files, and data is a Tensor"),
        ({"crop": -1}, r"crop=-1 is no size; give pixels"),
        ({"range": "1..0"}, r"goes from 1 to 0"),
    ],
)
def test_options_out_of_range_are_refused(translator, options, match):
    refused(match, images(4), translator, **options)


def test_inputs_of_another_type_are_refused(translator):
    refused(
        r"gives the generator float64 of 1x3x8x8, and it takes float32; convert",
        torch.zeros(4, 3, 8, 8, dtype=torch.float64),
        translator,
    )
