"""One verification over several libtorchs, compilers and ways of building."""
