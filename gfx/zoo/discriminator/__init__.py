"""Reference discriminators of the papers, one file each; `gfx.zoo.build` makes them."""
