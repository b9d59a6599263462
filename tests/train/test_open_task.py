"""Whatever holds examples becomes the task of the generator, or a sentence says why not."""

import re
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import gfx
from gfx.errors import InputError
from gfx.train import tasks
from gfx.train.feeding import Loader
from gfx.train.tasks import open_task
from support.picture_folders import picture, write_pictures
from support.task_kinds import Noisy, images, same_batch


def small(name, **options):
    return gfx.trace(gfx.zoo.build(name, **options))


@pytest.fixture(scope="module")
def translator():
    """From image to image, 8 pixels large."""
    return gfx.trace(
        nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh()), torch.zeros(1, 3, 8, 8)
    )


@pytest.fixture(scope="module")
def dcgan():
    return small("dcgan", ngf=4, image_size=8)


@pytest.fixture(scope="module")
def upscaler():
    net = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2), nn.Sigmoid())
    return gfx.trace(net, torch.zeros(1, 3, 4, 4))


class Conditional(nn.Module):
    """Noise and a class to 8 pixels."""

    def __init__(self, one_hot):
        super().__init__()
        self.classes = nn.Linear(3, 4) if one_hot else nn.Embedding(3, 4)
        self.up = nn.Linear(4, 192)

    def forward(self, z, c):
        return torch.tanh(self.up(z + self.classes(c))).view(-1, 3, 8, 8)


class Editor(nn.Module):
    """Image and attributes to image."""

    def __init__(self, count):
        super().__init__()
        self.mix = nn.Conv2d(3 + count, 3, 1)
        self.count = count

    def forward(self, x, c):
        planes = c.view(-1, self.count, 1, 1).expand(-1, -1, 8, 8)
        return torch.tanh(self.mix(torch.cat((x, planes), 1)))


def conditional(one_hot=False):
    c = torch.eye(3)[:1] if one_hot else torch.zeros(1, dtype=torch.int64)
    return gfx.trace(Conditional(one_hot), (torch.randn(1, 4), c))


def editor(count):
    return gfx.trace(Editor(count), (torch.zeros(1, 3, 8, 8), torch.zeros(1, count)))


def side_by_side(folder, count=4):
    write_pictures(folder, count, (8, 16))
    return folder


def said(task):
    return "\n".join(task.about)


# folders


def test_two_folders_of_equal_names_are_pairs(tmp_path, translator):
    write_pictures(tmp_path / "A", ["x/1.png", "2.png"])
    write_pictures(tmp_path / "B", ["x/1.jpg", "2.bmp"], first=5)
    task = open_task(tmp_path, translator)
    assert (task.name, task.length, task.held_out) == ("paired", 2, None)
    batch = Loader(task, 2).at(0)
    assert batch.tensors["x"].shape == batch.tensors["y"].shape == (2, 3, 8, 8)
    assert task.judged(batch, batch.tensors["y"])[0].shape == (2, 6, 8, 8)
    assert "holds A/ and B/" in said(task)
    assert "pictures are 8x8" in said(task)
    assert "scaled to [-1, 1]" in said(task)


def test_partners_stay_together_and_are_seen_in_one_view(tmp_path, translator):
    for name in ("A", "B"):
        write_pictures(tmp_path / name, 6, (12, 10))
    task = open_task(tmp_path, translator, size=9, crop=8)
    batch = Loader(task, 6).at(3)
    assert torch.equal(batch.tensors["x"], batch.tensors["y"])
    assert len(set(batch.keys)) == 6


def test_a_value_is_that_of_the_picture(tmp_path, translator):
    write_pictures(tmp_path / "A", 1)
    write_pictures(tmp_path / "B", 1, first=1)
    batch = Loader(open_task(tmp_path, translator, flip=False), 1).at(0)
    for name, number in (("x", 0), ("y", 1)):
        wanted = torch.from_numpy(np.array(picture(number))).permute(2, 0, 1) / 127.5 - 1
        assert torch.allclose(batch.tensors[name][0], wanted, atol=1e-6)


def test_files_of_both_sides_are_pairs(tmp_path, translator):
    task = open_task(side_by_side(tmp_path / "pairs"), translator)
    batch = Loader(task, 4).at(0)
    assert task.name == "paired"
    assert batch.tensors["x"].shape == (4, 3, 8, 8)
    assert not torch.equal(batch.tensors["x"], batch.tensors["y"])


@pytest.mark.parametrize(
    "folders", [("trainA", "trainB"), ("train/A", "train/B"), ("A/train", "B/train")]
)
@pytest.mark.parametrize("held", ["test", "val"])
def test_the_folder_to_judge_with_is_found(tmp_path, translator, folders, held):
    for number, folder in enumerate(folders):
        write_pictures(tmp_path / folder, ["a.png", "b.png", "c.png"], first=9 * number)
        other = folder.replace("train", held)
        write_pictures(tmp_path / other, ["a.png", "d.png"], first=20 + 9 * number)
    task = open_task(tmp_path, translator)
    assert (task.name, task.length, task.held_out.length) == ("paired", 3, 2)
    keys = {k for part in (task, task.held_out) for k in Loader(part, 2).at(0).keys}
    assert sum(key.startswith("v") for key in keys) == 2


def test_the_half_that_is_the_input_is_the_users_choice(tmp_path, translator):
    folder = side_by_side(tmp_path / "pairs")
    left, right, whole = (
        open_task(gfx.images(folder, half=half), translator, flip=False)
        for half in ("left", "right", "middle")
    )
    a, b = (
        {key: (x, y) for key, x, y in zip(t.keys, t.tensors["x"], t.tensors["y"], strict=True)}
        for t in (Loader(task, 4).at(0) for task in (left, right))
    )
    assert len(a) == 4
    assert all(torch.equal(a[key][0], b[key][1]) for key in a)
    assert all(torch.equal(a[key][1], b[key][0]) for key in a)
    assert whole.name == "self"


def test_a_folder_of_its_own_is_held_out(tmp_path, translator):
    write_pictures(tmp_path / "a", 12)
    write_pictures(tmp_path / "b", 3, first=20)
    task = open_task(tmp_path / "a", translator, val=tmp_path / "b")
    assert (task.length, task.held_out.length) == (12, 3)


def test_labels_that_a_dataset_states_are_not_read_item_by_item():
    class Stated(Dataset):
        targets: ClassVar = [0, 1, 2] * 4
        read = 0

        def __len__(self):
            return 12

        def __getitem__(self, index):
            self.read += 1
            return images(1)[0], self.targets[index]

    data = Stated()
    task = open_task(data, conditional())
    assert (task.name, task.classes) == ("class", 3)
    assert data.read <= 6


def test_inputs_of_another_type_are_refused(translator):
    refused(
        r"gives the generator float64 of 1x3x8x8, and it takes float32; convert",
        torch.zeros(4, 3, 8, 8, dtype=torch.float64),
        translator,
    )


def test_sets_of_other_names_are_unpaired(tmp_path, translator):
    write_pictures(tmp_path / "trainA", ["horse1.png", "horse2.png"])
    write_pictures(tmp_path / "trainB", ["zebra1.png", "zebra2.png", "zebra3.png"])
    task = open_task(tmp_path, translator)
    assert (task.name, task.length) == ("unpaired", 2)
    batch = Loader(task, 2).at(0)
    assert task.target(batch) is None
    assert task.judged(batch, batch.tensors["x"])[0].shape == (2, 3, 8, 8)


def test_noise_makes_images_like_those_of_a_folder(tmp_path, dcgan):
    write_pictures(tmp_path, 12, (16, 20))
    task = open_task(tmp_path, dcgan)
    batch = Loader(task, 3).at(0)
    assert (task.name, task.length, task.held_out.length) == ("latent", 11, 1)
    assert batch.tensors["z"].shape == (3, 100, 1, 1)
    assert batch.tensors["y"].shape == (3, 3, 8, 8)
    assert batch.keys == ("", "", "")
    assert "scaled and cut to 8x8" in said(task)


@pytest.mark.parametrize("one_hot", [False, True])
def test_one_folder_a_class(tmp_path, one_hot):
    for number, name in enumerate(("cat", "dog", "fox")):
        write_pictures(tmp_path / name, 2, first=5 * number)
    task = open_task(tmp_path, conditional(one_hot))
    batch = Loader(task, 6).at(0)
    assert task.name == "class"
    assert sorted(batch.tensors["c"].tolist()) == [0, 0, 1, 1, 2, 2]
    z, c = task.inputs(batch)
    assert c.shape == ((6, 3) if one_hot else (6,))
    assert torch.equal(task.judged(batch, z)[1], batch.tensors["c"])
    assert "cat, dog, fox" in said(task)
    logits = torch.zeros(6, 3)
    assert task.label_loss(batch, logits, fake=True).item() == pytest.approx(1.0986, abs=1e-3)


def test_a_table_of_attributes(tmp_path):
    write_pictures(tmp_path / "faces", 4)
    rows = ["file,young,smiling", *(f"{n:02}.png,{n % 2},{n // 2}" for n in range(4))]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    task = open_task(tmp_path, editor(2))
    batch = Loader(task, 4).at(0)
    assert (task.name, task.names) == ("labels", ("young", "smiling"))
    numbers = [int(re.match(r"\d+", key)[0]) for key in batch.keys]
    assert batch.tensors["c_org"].tolist() == [[n % 2, n // 2] for n in numbers]
    assert task.inputs(batch)[1] is batch.tensors["c_trg"]
    loss = task.label_loss(batch, torch.zeros(4, 2), fake=False)
    assert loss.item() == pytest.approx(2 * 0.6931, abs=1e-3)


def test_celeba_takes_stargans_five_of_its_attributes(tmp_path):
    write_pictures(tmp_path / "img_align_celeba", 3)
    names = "Young Bald Male Brown_Hair Smiling Blond_Hair Black_Hair".split()
    rows = [f"{n:02}.png  1 -1 -1  1 -1 -1 {2 * (n == 2) - 1}" for n in range(3)]
    text = "\n".join(["3", " ".join(names), *rows])
    (tmp_path / "list_attr_celeba.txt").write_text(text)
    task = open_task(tmp_path, editor(5))
    assert task.names == ("Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young")
    assert task.table.tolist() == [[0, 0, 1, 0, 1], [0, 0, 1, 0, 1], [1, 0, 1, 0, 1]]
    chosen = open_task(tmp_path, editor(2), attributes=["Male", "Young"])
    assert chosen.table.tolist() == [[0, 1]] * 3


def test_classes_are_attributes_of_which_each_image_has_one(tmp_path):
    for name in ("happy", "sad"):
        write_pictures(tmp_path / name, 2)
    task = open_task(tmp_path, editor(2))
    assert task.exclusive
    assert task.label_loss(Loader(task, 4).at(0), torch.zeros(4, 2), fake=True) == pytest.approx(
        0.6931, abs=1e-3
    )


def test_an_upscaler_gets_its_images_scaled_down(tmp_path, upscaler):
    write_pictures(tmp_path, 4, (20, 24))
    task = open_task(tmp_path, upscaler)
    batch = Loader(task, 4).at(0)
    assert task.name == "super_resolution"
    assert batch.tensors["x"].shape == (4, 3, 4, 4)
    assert batch.tensors["y"].shape == (4, 3, 8, 8)
    assert 0 <= batch.tensors["x"].min() <= batch.tensors["x"].max() <= 1
    means = (batch.tensors["x"].mean(), batch.tensors["y"].mean())
    assert abs(means[0] - means[1]) < 0.05
    assert "pieces of 8x8" in said(task)


def test_other_folders_are_inputs_of_a_translator(tmp_path, translator):
    task = open_task(write_pictures(tmp_path, 4), translator)
    assert task.name == "self"
    with pytest.raises(InputError, match="no real images for a discriminator"):
        task.real(Loader(task, 2).at(0))


def test_pictures_smaller_than_the_example_stay_where_the_generator_runs(tmp_path, translator):
    task = open_task(write_pictures(tmp_path, 4, (6, 7)), translator)
    assert Loader(task, 2).at(0).tensors["x0"].shape == (2, 3, 6, 7)
    assert "pictures stay 7x6" in said(task)


def test_the_target_has_the_range_of_the_output(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sigmoid())
    net.image_range = (-1.0, 1.0)
    program = gfx.trace(net, torch.zeros(1, 3, 8, 8))
    for name in ("A", "B"):
        write_pictures(tmp_path / name, 2)
    batch = Loader(open_task(tmp_path, program, model=net), 2).at(0)
    assert torch.allclose(batch.tensors["x"], batch.tensors["y"] * 2 - 1, atol=1e-6)
    assert batch.tensors["y"].min() >= 0


# what is no folder


@pytest.mark.parametrize(
    "kind", ["tensors", "datasets", "items", "loader", "list", "batches", "generator", "dicts"]
)
def test_pairs_of_any_form_are_the_same_pairs(translator, kind):
    x, y = images(12).float(), images(12, 1).float()
    both = list(zip(x, y, strict=True))
    data = {
        "tensors": (x, y),
        "datasets": (list(x), list(y)),
        "items": TensorDataset(x, y),
        "loader": DataLoader(TensorDataset(x, y), batch_size=5, shuffle=True),
        "list": both,
        "batches": [(x[:7], y[:7]), (x[7:], y[7:])],
        "generator": (pair for pair in both),
        "dicts": [{"x": a, "y": b} for a, b in both],
    }[kind]
    task = open_task(data, translator)
    wanted = open_task(tasks.paired(x, y), translator)
    assert (task.name, task.length, task.held_out.length) == ("paired", 11, 1)
    assert same_batch(Loader(task, 4).at(1), Loader(wanted, 4).at(1))


def test_an_iterable_dataset_is_iterated_once(dcgan):
    class Stream(IterableDataset):
        times = 0

        def __iter__(self):
            self.times += 1
            return iter(torch.rand(5, 3, 8, 8))

    data = Stream()
    task = open_task(data, dcgan)
    _ = [Loader(task, 2).at(step) for step in range(5)]
    assert (task.name, task.length, data.times) == ("latent", 5, 1)


def test_a_dataset_that_draws_gives_the_same_batch_again(translator):
    task = open_task(Noisy(6), translator)
    assert task.draws
    assert task.variants is None
    assert Loader(task, 2).at(1).keys == ("", "")


def test_noise_alone_is_an_input_of_its_own(dcgan):
    task = open_task(torch.randn(20, 100, 1, 1), dcgan)
    assert (task.name, task.length) == ("self", 18)


def test_pictures_of_pillow_and_arrays_are_images(dcgan):
    class Pictures(Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return picture(index), 7

    task = open_task(Pictures(), dcgan)
    y = Loader(task, 3).at(0).tensors["y"]
    assert y.shape == (3, 3, 8, 8)
    assert -1 <= y.min() < y.max() <= 1


def test_a_call_of_its_own_runs_odd_signatures(translator):
    task = open_task(
        tasks.paired(images(4), images(4)), translator, call=lambda g, b: g(b.tensors["x"]) * 2
    )
    batch = Loader(task, 2).at(0)
    assert torch.equal(task.generate(nn.Identity(), batch), batch.tensors["x"] * 2)


# held out, labels


@pytest.mark.parametrize(
    ("count", "val", "held"),
    [(9, None, 0), (10, None, 1), (100, None, 10), (6000, None, 500), (4, 0.5, 2), (100, 0, 0)],
)
def test_a_share_is_held_out(translator, count, val, held):
    task = open_task(torch.zeros(count, 3, 8, 8), translator, val=val)
    assert task.length == count - held
    assert (task.held_out.length if task.held_out else 0) == held


def test_what_is_held_out_is_no_example_and_follows_the_seed(translator):
    data = images(40).float()
    task = open_task(data, translator, seed=1)

    def keys(part):
        return {k.rstrip("f") for s in range(9) for k in Loader(part, 4).at(s).keys}

    assert keys(task).isdisjoint(keys(task.held_out))
    assert keys(task.held_out) == keys(open_task(data, translator, seed=1).held_out)
    assert keys(task.held_out) != keys(open_task(data, translator, seed=2).held_out)


def test_what_is_held_out_is_seen_without_chance(translator):
    task = open_task(tasks.paired(images(20, size=12), images(20, 1, 12), crop=8), translator)
    keys = {key for step in range(6) for key in Loader(task.held_out, 2).at(step).keys}
    assert len(keys) == 2
    assert all(key.endswith("@2,2") for key in keys)


def test_a_quarter_of_the_pairs_is_labelled(translator):
    task = open_task((images(40), images(40, 1)), translator, labels=0.25, val=0)
    batch = Loader(task, 40).at(0)
    assert int(batch.labelled.sum()) == 10
    assert task.target(batch) is None
    assert torch.isnan(batch.tensors["y"]).flatten(1).all(1).eq(~batch.labelled).all()
    with pytest.raises(InputError, match=r"30 of 40 examples of the batch have no target"):
        task.real(batch)
    labelled = batch.where(batch.labelled)
    assert torch.equal(task.real(labelled), task.target(labelled))
    assert task.only(labelled=True).length == 10
    assert task.only(labelled=False).length == 30
    assert "10 of 40 pairs keep their targets" in said(task)


# what cannot be


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
        r"2 of 3 pictures are smaller than the crop \d+x\d+ .*: a\.png 7x8, b\.png 7x8; .*--crop",
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


def map_folder(folder, numbers, mode="L"):
    write_pictures(folder / "B", len(numbers))
    (folder / "A").mkdir()
    for place, number in enumerate(numbers):
        array = np.full((8, 8), number, np.uint8)
        array[0, 0] = 0
        made = Image.fromarray(array)
        if mode == "P":
            made.putpalette(list(range(255, -1, -1)) * 3)
        made.convert(made.mode if mode == "P" else mode).save(folder / "A" / f"{place:02}.png")
    return folder


@pytest.mark.parametrize("mode", ["L", "P"])
def test_maps_of_labels_are_a_channel_for_each(tmp_path, mode):
    program = gfx.trace(nn.Conv2d(7, 3, 1), torch.zeros(1, 7, 8, 8))
    task = open_task(map_folder(tmp_path, [5, 6], mode), program)
    batch = Loader(task, 2).at(0)
    x = batch.tensors["x"]
    assert (task.name, x.shape) == ("paired", (2, 7, 8, 8))
    assert torch.equal(x.sum(1), torch.ones(2, 8, 8))
    assert sorted(x.sum((2, 3)).argmax(1).tolist()) == [5, 6]
    assert task.default_discriminator(batch.tensors["y"], batch).startswith(
        "zoo:patchgan?input_nc=10"
    )
    assert "maps of 7 labels" in said(task)


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


def test_the_task_of_the_user_is_left_as_it_was(translator):
    given = tasks.paired(images(20), images(20, 1))
    before = (given.about, given.held_out, given.length)
    made = open_task(given, translator, labels=0.5)
    assert (given.about, given.held_out, given.length) == before
    assert made.held_out is not None
