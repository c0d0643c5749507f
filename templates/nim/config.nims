# Gets the flags of this machine's libtorch from torchlink at every compile, so that the repository contains no paths.
# `torchlink find` shows which libtorch that is; TORCHLINK_LIBTORCH=PATH names another one.
import std/strutils

switch("backend", "cpp")  # also for editors, which only run `nim check`

const command = "torchlink flags --nim"

let (output, status) = gorgeEx(command)
if status != 0:
  quit "config.nims: '" & command & "' failed (is torchlink installed and on PATH?):\n" & output.indent(2)
for line in output.splitLines:
  if line.startsWith("--"):
    let parts = line[2 .. ^1].split(':', maxsplit = 1)
    switch(parts[0], if parts[1].startsWith('"'): parts[1].unescape else: parts[1])
  elif line.len > 0:
    echo line  # a note from torchlink
