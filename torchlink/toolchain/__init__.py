"""C++ compilers, linkers, CMake and Nim: which are there, which version, what they can do."""
