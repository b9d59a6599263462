"""Writes front.html of a search: one point a net, its cost across and its score up.

1. All text is escaped; the page's own policy forbids every request.
2. The page is complete without its script, which shows the net that is pointed at or chosen.
3. Bounds are drawn as they are: what lies within them is called noise in words too.
"""

import base64
import math
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from gfx.costs import human
from gfx.errors import ArchiveError, InputError
from gfx.io.atomic_writes import write_files
from gfx.io.guards import printable
from gfx.io.regular_files import read_regular
from gfx.reports.front.front_chart import NAMES, UNITS, front_chart
from gfx.reports.html import page_head
from gfx.reports.html.cells import bar, cell, fact
from gfx.train.runs.sample_grids import layout_of
from gfx.train.search.front import Front, FrontNet
from gfx.train.search.front_file import read_front
from gfx.train.supernet import Setting

__all__ = ["front_page", "write_front_page"]

_ONE = 8 * 2**20  # bytes of a picture
_ALL = 48 * 2**20  # bytes of all pictures of a page


def write_front_page(folder: Path, model: str = "") -> Path:
    """Writes front.html into the folder of a search; it appears whole or not at all.

    Raises: ArchiveError if there is no front, or the page cannot be written.
    """
    text = front_page(read_front(folder), folder, model)
    path = folder / "front.html"
    write_files({path: lambda file: file.write(text.encode("utf-8", "replace"))})
    return path


def front_page(front: Front, folder: Path, model: str = "") -> str:
    """Returns the page of a front as text; `folder` holds its pictures.

    Example: `Path("front.html").write_text(front_page(read_front("runs/a"), Path("runs/a")))`.
    """
    template = Template(files("gfx.reports.front").joinpath("front.html").read_text("utf-8"))
    name = model or "the front of a search"
    room = [_ALL]
    nets = "".join(_net(front, at, folder, room) for at in range(len(front.nets)))
    return template.substitute(
        head=page_head(
            f"gfx search: {name}",
            files("gfx.reports.front").joinpath("front.css").read_text("utf-8"),
            scripts=True,
        ),
        heading=escape(printable(name)),
        sentence=escape(front.sentence),
        state="open" if len(front.nets) > 1 and not front.told else "",
        tiles=_tiles(front),
        chart=front_chart(front),
        table=_table(front),
        nets=nets,
        assumed="".join(f"<li>{escape(printable(said))}</li>" for said in front.about),
    )


def _tiles(front: Front) -> str:
    whole = front.whole
    shown = fact("score", front.score, f' <span class="note">{_way(front)}</span>')
    shown += fact("judged", f"{front.judged:,} nets")
    shown += fact("searched on", f"{front.searched_examples:,} examples")
    shown += fact("judged again on", f"{front.examples:,} fresh examples")
    shown += fact("largest net, MACs", human(whole.prices["exact"]))
    shown += fact("largest net, parameters", human(whole.prices["params"]))
    return shown + fact(f"largest net, {front.score}", f"{whole.value:.4g}")


def _way(front: Front) -> str:
    return "higher is better" if front.higher_is_better else "lower is better"


def _table(front: Front) -> str:
    """Returns a row for each net, and one for the largest."""
    cost = NAMES[front.measure]
    names = [cost, "of the largest", "parameters", front.score, "95 % bounds", "searched", "told"]
    heads = '<th scope="col">net</th>' + "".join(
        f'<th scope="col"{"" if name == "told" else " class=number"}>{escape(name)}</th>'
        for name in names
    )
    rows = "".join(
        f'<tr data-net="{at}">{_row(front, net, f"net {at + 1}", link=f"#net-{at}")}</tr>'
        for at, net in enumerate(front.nets)
    )
    rows += f"<tr>{_row(front, front.whole, 'the largest')}</tr>"
    caption = (
        "Scores are of fresh examples; searched: of those that the nets were chosen by. Each net "
        "is compared with the one before it, on the same examples."
    )
    return (
        f'<table class="stacks"><caption>{caption}</caption><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _row(front: Front, net: FrontNet, name: str, link: str = "") -> str:
    price, most = net.prices[front.measure], front.whole.prices[front.measure]
    share = price / most if most else 1.0
    unit = UNITS[front.measure]
    named = f'<a href="{link}">{escape(name)}</a>' if link else escape(name)
    cells = f'<th scope="row">{named}</th>'
    cells += cell(human(price, unit), css="number", label=NAMES[front.measure])
    filled = bar(share, "share")
    cells += cell(f"{share:.1%}", css="number", extra=filled, label="of the largest")
    cells += cell(f"{net.prices['params']:,}", css="number", label="parameters")
    cells += cell(f"{net.value:.4g}", css="number", label=front.score)
    bounds = f"{net.low:.4g} … {net.high:.4g}" if net.low < net.high else "-"
    cells += cell(bounds, css="number", label="95 % bounds")
    searched = "-" if not link else f"{net.searched:.4g}"
    cells += cell(searched, css="number", label="searched")
    return cells + cell(_told(net) if link else "for comparison", css="why", label="told")


def _told(net: FrontNet) -> str:
    """Says how a net stands to the one before it, with the bounds."""
    if not net.better:
        return net.verdict
    value, low, high = net.better
    if not math.isfinite(low) or not math.isfinite(high):
        return f"{net.verdict}: no bounds are known"
    return f"{net.verdict}: by {value:.3g} ({low:.3g} … {high:.3g})"


def _choice(value: Setting, whole: Setting) -> str:
    """Returns the cells of a width, or of the form of a layer."""
    if isinstance(value, str) or isinstance(whole, str):
        return cell(printable(value)) + cell("" if value == whole else f"not {printable(whole)}")
    share = bar(value / max(whole, 1), "saving")
    return cell(f"{value:,}", css="number") + cell(f"of {whole:,}", css="number", extra=share)


def _net(front: Front, at: int, folder: Path, room: list[int]) -> str:
    """Returns what is known of one net: costs, widths, a picture."""
    net = front.nets[at]
    facts = fact("MACs", human(net.prices["exact"])) + fact(
        "parameters", f"{net.prices['params']:,}"
    )
    facts += fact("memory of activations", human(net.prices["peak_activation_bytes"], "B"))
    facts += fact(front.score, f"{net.value:.4g}") + fact("compared", _told(net))
    if net.file:
        facts += fact("file", net.file)
    widths = "".join(
        f'<tr><th scope="row">{escape(printable(name))}</th>'
        + _choice(value, front.whole.widths.get(name, value))
        + "</tr>"
        for name, value in net.widths.items()
    )
    return (
        f'<article class="net" id="net-{at}" aria-label="net {at + 1}"><h3>net {at + 1}</h3>'
        f"<dl>{facts}</dl>{_picture(net, folder, room)}<details open><summary>widths</summary>"
        f'<div class="scroll" tabindex="0" role="region" aria-label="widths of net {at + 1}">'
        f"<table><tbody>{widths}</tbody></table></div></details></article>"
    )


def _picture(net: FrontNet, folder: Path, room: list[int]) -> str:
    """Returns what a net makes, or why there is no picture."""
    if not net.picture:
        return '<p class="note">There is no picture: the outputs are no images.</p>'
    try:
        data = read_regular(folder / net.picture, _ONE)
        layout = layout_of(data)
    except (ArchiveError, InputError):
        return f'<p class="note">{escape(net.picture)} cannot be read.</p>'
    room[0] -= len(data)
    if room[0] < 0:
        return f'<p class="note">{escape(net.picture)} is left out, to keep the page small.</p>'
    columns = " | ".join(_columns(layout.columns if layout is not None else ()))
    uri = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return (
        f'<figure class="whole"><img src="{uri}" alt="{escape(columns)}" loading="lazy">'
        f"<figcaption>{escape(columns)}: an example a row</figcaption></figure>"
    )


def _columns(names: Iterable[str]) -> list[str]:
    return [printable(name) for name in names] or ["what the net makes"]
