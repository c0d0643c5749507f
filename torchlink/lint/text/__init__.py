"""Reading the output of ldd, lddtree, readelf and the loader, and the closure that it describes."""
