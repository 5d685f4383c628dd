"""How files of images are decoded: a module for each family of formats, all to `Stored`."""
