"""Reading what ldd, lddtree, readelf and the loader print, and the closure that it describes."""
