"""The table of `gfx.inspect` as text, page and figure."""
