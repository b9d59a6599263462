"""Whatever holds examples becomes the task of the generator."""

import re
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import gfx
from gfx.errors import InputError
from gfx.train import tasks
from gfx.train.feeding import Loader
from gfx.train.tasks import open_task
from support.map_pictures import map_folder
from support.picture_folders import picture, write_pictures
from support.task_generators import conditional, editor, upscaler
from support.task_kinds import Noisy, images, same_batch


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


@pytest.mark.parametrize("second", [0, 5])
def test_two_folders_may_be_anywhere(tmp_path, translator, second):
    write_pictures(tmp_path / "x", 4)
    names = [f"{n:02}.png" for n in range(second, second + 4)]
    write_pictures(tmp_path / "y" / "z", names)
    task = open_task((tmp_path / "x", str(tmp_path / "y" / "z")), translator)
    assert (task.name, task.length) == ("unpaired" if second else "paired", 4)
    assert "holds x/ and y/z/" in said(task)


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


def test_an_upscaler_gets_its_images_scaled_down(tmp_path):
    write_pictures(tmp_path, 4, (20, 24))
    task = open_task(tmp_path, upscaler())
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
    assert "pictures are taken 7x6" in said(task)


def test_pictures_of_many_sizes_are_brought_to_what_all_have(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh())
    program = gfx.trace(net, torch.zeros(1, 3, 64, 64))
    write_pictures(tmp_path, ["a.png"], (80, 90))
    write_pictures(tmp_path, ["b.png"], (40, 35))
    task = open_task(tmp_path, program)
    assert Loader(task, 2).at(0).tensors["x0"].shape == (2, 3, 32, 32)
    assert "pictures are taken 32x32" in said(task)


def test_an_upscaler_takes_pieces_of_pictures_smaller_than_its_example(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))
    program = gfx.trace(net, torch.zeros(1, 3, 64, 64))
    write_pictures(tmp_path, ["a.png"], (80, 90))
    write_pictures(tmp_path, ["b.png"], (41, 35))
    batch = Loader(open_task(tmp_path, program), 2).at(0)
    assert batch.tensors["y"].shape == (2, 3, 40, 34)
    assert batch.tensors["x"].shape == (2, 3, 20, 17)


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
    "kind",
    ["tensors", "datasets", "items", "loader", "list", "batches", "generator", "dicts", "dict"],
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
        "dict": {"x": x, "y": y},
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


def test_the_task_of_the_user_is_left_as_it_was(translator):
    given = tasks.paired(images(20), images(20, 1))
    before = (given.about, given.held_out, given.length)
    made = open_task(given, translator, labels=0.5)
    assert (given.about, given.held_out, given.length) == before
    assert made.held_out is not None
