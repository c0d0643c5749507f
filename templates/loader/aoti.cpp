// The reference loader for AOTInductor packages: loader.cpp with another model.
//
//   aoti [--device cpu|cuda|auto] PACKAGE.pt2|DIRECTORY|MODEL.so [INPUT…]   by hand, for reading
//   aoti --serve   the protocol of README.md

#define LOADER_AOTI
#include "loader.cpp"
