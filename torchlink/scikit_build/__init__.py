"""The CMake prefix that scikit-build-core finds through the entry point `cmake.prefix`, with `find_package(Torch)`.

Its files ask torchlink for the libtorch only when a project looks for it: see `share/cmake/Torch/` beside this file.
"""
