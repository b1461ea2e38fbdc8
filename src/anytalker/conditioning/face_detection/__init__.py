"""Finding faces: the networks that come with the package, how their findings are merged, and what else can be used."""
