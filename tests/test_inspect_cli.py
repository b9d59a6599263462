"""`gfx inspect` shows what gfx.inspect finds, writes files whole, and explains what is wrong."""

import gfx


def test_progress_tells_each_change_on_each_batch():
    told = []
    model = gfx.zoo.build("dcgan", ngf=4)
    table = gfx.inspect(model, batches=2, progress=lambda *step: told.append(step))
    changes = {(row.layer, "decompose") for row in table if row.damage["decompose"] is not None}
    changes |= {(row.group, share) for row in table if row.free for share in row.widths}
    assert [done for done, _, _ in told] == list(range(1, 2 * len(changes) + 1))
    assert {total for _, total, _ in told} == {2 * len(changes)}
    assert {name for _, _, name in told} == {name for name, _ in changes}


def test_a_table_knows_the_program_that_it_is_about():
    table = gfx.inspect(gfx.zoo.build("dcgan", ngf=4), layers="up.*")
    assert {row.layer for row in table} < set(dict(table.program.module.named_modules()))
    assert table.form.kind == "depthwise_separable"
    assert "program" not in repr(table.filter(stage="up"))
