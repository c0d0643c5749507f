## The reference loader as a Nim program: the same C++, compiled and linked by Nim with the flags of nim.cfg.

when not defined(cpp):
  {.error: "The loader needs Nim's C++ backend: build with `nim cpp`, not `nim c`.".}

{.compile("loader.cpp", "-DTORCHLINK_NO_MAIN").}

proc loaderMain(argc: cint, argv: cstringArray): cint {.importc: "torchlink_loader_main", cdecl.}

var
  argumentCount {.importc: "cmdCount".}: cint  # Nim's own copies of what C's main received
  arguments {.importc: "cmdLine".}: cstringArray

quit int(loaderMain(argumentCount, arguments))
