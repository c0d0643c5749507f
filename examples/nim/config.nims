# Asks torchlink for the flags of this machine's libtorch at every compile, so that the repository holds nobody's
# paths. `torchlink find` says which libtorch that is; TORCHLINK_LIBTORCH=PATH names another one.
import std/strutils

switch("backend", "cpp")  # for editors, too: Nim asks nobody while it only checks

const question = "torchlink flags --nim"

let (answer, status) = gorgeEx(question)
if status != 0:
  quit "config.nims: '" & question & "' failed (is torchlink installed and on PATH?):\n" & answer.indent(2)
for line in answer.splitLines:
  if line.startsWith("--"):
    let words = line[2 .. ^1].split(':', maxsplit = 1)
    switch(words[0], if words[1].startsWith('"'): words[1].unescape else: words[1])
  elif line.len > 0:
    echo line  # what torchlink has to say besides
