## An HTTP server for TorchScript models:
##
##   server --models DIR [--host 127.0.0.1] [--port 8080] [--max-body BYTES] [--timeout SECONDS]
##
## One thread: a model's call is answered before the next one begins, and libtorch uses all cores for it.

import std/[asyncdispatch, asynchttpserver, json, os, posix, strutils, uri]
import ./catalog, ./http, ./jsonvalues, ./torchvalues

type
  Options = object
    models, host: string
    port: int
    limits: Limits

const usage = "usage: server --models DIR [--host 127.0.0.1] [--port 8080] [--max-body BYTES] [--timeout SECONDS]"

proc decoded(text: string): string =
  ## Of a part of a path or a query, in which an encoded slash or NUL has no place.
  for index, letter in text:
    if letter == '%' and (index + 2 >= text.len or text[index + 1] notin HexDigits or text[index + 2] notin HexDigits):
      refuse(Http400, "'%' must be followed by two hexadecimal digits")
  result = decodeUrl(text, decodePlus = false)
  if '\0' in result: refuse(Http400, "a name cannot hold a NUL")
  if result.count('/') != text.count('/') or '\\' in result: refuse(Http400, "a name cannot hold an encoded slash")

proc queried(query, name: string): string =
  ## In which `+` is a space, as HTML forms and the clients of most languages write it.
  for part in query.split('&'):
    let equals = part.find('=')
    if equals > 0 and part[0 ..< equals] == name: return decoded(part[equals + 1 .. ^1].replace('+', ' '))
  refuse(Http400, "the query has no " & name & "=…")

proc call(catalog: Catalog, file: string, body: string): JsonNode =
  let model = catalog.model(file)
  var arguments: seq[Value]
  var output: Value
  try:
    arguments = readArguments(parse(body))
    output = model.forward(arguments)
    result = output.toJson
  except ValueFault, TorchError:
    refuse(Http400, getCurrentExceptionMsg())
  finally:
    arguments.free
    if output != nil: output.free

proc only(request: Request, methods: set[HttpMethod]) =
  if request.reqMethod notin methods:
    refuse(Http405, "use " & (if HttpPost in methods: "POST" else: "GET"))

proc route(catalog: Catalog, request: Request): JsonNode =
  let path = request.url.path
  if path == "/ping":
    request.only {HttpGet, HttpHead}
    return %*{"status": "Healthy"}
  if path == "/models":
    request.only {HttpGet, HttpHead}
    var all = newJArray()
    for each in catalog.models: all.add %*{"name": each.name, "file": each.file, "loaded": each.loaded}
    return %*{"models": all}
  if path == "/serve":
    request.only {HttpPost}
    return catalog.call(request.url.query.queried("servable_identifier"), request.body)
  if path.startsWith("/predictions/"):
    request.only {HttpPost}
    return catalog.call(catalog.fileNamed(decoded(path["/predictions/".len .. ^1])), request.body)
  refuse(Http404, "no such route: there are POST /serve?servable_identifier=FILE, POST /predictions/NAME, GET /ping and GET /models")

proc answer(catalog: Catalog, request: Request): Answer =
  try:
    Answer(code: Http200, body: catalog.route(request))
  except RequestError as error:
    errorAnswer(error.code, error.msg)
  except Exception:  # a bug, also an index or a number out of range: this request fails, and the server goes on
    stderr.writeLine "server: " & getCurrentExceptionMsg()
    errorAnswer(Http500, "an error in the server")

proc readOptions(): Options =
  result = Options(host: "127.0.0.1", port: 8080, limits: Limits(
    body: 64 shl 20, head: 32 * 1024, headers: 100, connections: 500, seconds: 30, idleSeconds: 75))
  var words = commandLineParams()
  proc number(name, text: string, range: Slice[int]): int =
    if text.len in 1 .. 18 and text.allCharsInSet(Digits): result = parseInt(text) else: result = -1
    if result notin range: quit "server: " & name & " " & text & ": not a number from " & $range.a & " to " & $range.b, 2
  while words.len > 0:
    var (name, value) = (words[0], "")
    if name in ["--help", "-h"]:
      echo usage
      quit 0
    words.delete 0
    let equals = name.find('=')
    if equals > 0: (name, value) = (name[0 ..< equals], name[equals + 1 .. ^1])
    elif words.len > 0:
      value = words[0]
      words.delete 0
    case name
    of "--models": result.models = value
    of "--host": result.host = if value == "localhost": "127.0.0.1" else: value
    of "--port": result.port = number(name, value, 0 .. 65535)
    of "--max-body": result.limits.body = number(name, value, 1 .. 1 shl 40)
    of "--timeout": result.limits.seconds = number(name, value, 1 .. 86400)
    else: quit "server: unknown option " & name & "\n" & usage, 2
  if result.models.len == 0: quit usage, 2

proc main() =
  let options = readOptions()
  var catalog: Catalog
  var server: Server
  try:
    catalog = newCatalog(options.models, most = 16)
    server = newServer(proc (request: Request): Answer = catalog.answer(request), options.limits)
    signal(SIGPIPE, SIG_IGN)
    let port = server.listen(options.host, Port(options.port))
    echo "listening on http://", (if ':' in options.host: "[" & options.host & "]" else: options.host), ":", port.int
    stdout.flushFile()
  except OSError as error:
    quit "server: " & error.msg.splitLines[0], 1
  # Before libtorch starts threads: they must not take these signals.
  var stopped = false
  proc onSignal(fd: AsyncFD): bool =
    let stopping = server.stop()
    stopping.addCallback(proc () = stopped = true)
    true
  for number in [SIGTERM, SIGINT]: addSignal(number, onSignal)
  while not stopped:
    try:
      poll(500)
    except Exception:
      stderr.writeLine "server: " & getCurrentExceptionMsg()

main()
