## The models below a directory: found by name, loaded once, and loaded again when their file is replaced.

import std/[algorithm, asynchttpserver, os, posix, strutils, tables]
import ./http, ./torchvalues

type
  Identity = tuple[device, inode, bytes, seconds, nanoseconds: int64]

  Loaded = ref object
    identity: Identity
    model: Model
    used: int  # when, in calls

  Catalog* = ref object
    root: string  # without links
    loaded: Table[string, Loaded]  # by their path without links
    most: int
    calls: int

const suffixes = [".pt", ".ts", ".pth"]

proc newCatalog*(directory: string, most: int): Catalog =
  ## Of the models in a directory, of which `most` are kept loaded. Raises an `OSError`.
  if not dirExists(directory): raise newException(OSError, "no such directory: " & directory)
  Catalog(root: expandFilename(directory), most: most)

proc suffixOf(file: string): string =
  for suffix in suffixes:
    if file.endsWith(suffix) and file.lastPathPart.len > suffix.len: return suffix

proc located(catalog: Catalog, file: string): string =
  ## The path of a model's file without links. It is below the directory, wherever links lead.
  if file.len == 0 or '\0' in file or '\\' in file: refuse(Http400, "a model is named by its path below the directory of models")
  for part in file.split('/'):
    if part in ["", ".", ".."]: refuse(Http400, "a model is named by its path below the directory of models, without '..'")
  if file.suffixOf.len == 0: refuse(Http400, "no model: its name ends with none of " & suffixes.join(", "))
  try:
    result = expandFilename(catalog.root / file)
  except OSError:
    refuse(Http404, "no such model")
  if not result.startsWith(if catalog.root == "/": "/" else: catalog.root & "/"):
    refuse(Http403, "the model is not below the directory of models")
  if not fileExists(result): refuse(Http404, "no such model")

proc identityOf(path: string): Identity =
  var about: Stat
  if stat(path.cstring, about) != 0: refuse(Http404, "no such model")
  (about.st_dev.int64, about.st_ino.int64, about.st_size.int64, about.st_mtim.tv_sec.int64, about.st_mtim.tv_nsec.int64)

proc makeRoom(catalog: Catalog) =
  while catalog.loaded.len >= catalog.most:
    var oldest = ""
    for path, each in catalog.loaded:
      if oldest.len == 0 or each.used < catalog.loaded[oldest].used: oldest = path
    catalog.loaded[oldest].model.close()
    catalog.loaded.del oldest

proc model*(catalog: Catalog, file: string): Model =
  ## The model in a file, loaded if that has not been done since the file was written. Raises a `RequestError`.
  let path = catalog.located(file)
  let identity = identityOf(path)
  inc catalog.calls
  if path in catalog.loaded:
    let known = catalog.loaded[path]
    if known.identity == identity:
      known.used = catalog.calls
      return known.model
    known.model.close()
    catalog.loaded.del path
  catalog.makeRoom()
  try:
    result = loadModel(path)
  except TorchError as error:
    refuse(Http422, "the model cannot be loaded: " & error.msg)
  catalog.loaded[path] = Loaded(identity: identity, model: result, used: catalog.calls)

proc models*(catalog: Catalog): seq[tuple[name, file: string, loaded: bool]] =
  ## Those in the directory itself, by name.
  for kind, file in walkDir(catalog.root, relative = true):
    if kind in {pcFile, pcLinkToFile} and file.suffixOf.len > 0:
      try:
        let path = catalog.located(file)
        let loaded = path in catalog.loaded and catalog.loaded[path].identity == identityOf(path)
        result.add (file[0 ..< file.len - file.suffixOf.len], file, loaded)
      except RequestError:
        discard  # a link that leads out
  result.sort()

proc fileNamed*(catalog: Catalog, name: string): string =
  ## The file of the model with a name. Raises a `RequestError`.
  for suffix in suffixes:
    for each in catalog.models:
      if each.name == name and each.file == name & suffix: return each.file
  refuse(Http404, "no such model")
