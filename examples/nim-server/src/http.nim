## HTTP/1.1 on the types of Nim's asynchttpserver: connections that stay open, limits, and an end that loses no request.
##
## The reader of asynchttpserver itself (Nim 1.6 and 2) reserves memory for a chunk of any size that a client names, waits
## for slow clients for ever, answers in plain text, and does not know which requests it is reading. So requests are read
## here; `Request`, `respond` and the status codes are asynchttpserver's.

import std/[asyncdispatch, asynchttpserver, asyncnet, json, monotimes, nativesockets, strutils, times, uri]
from std/posix import MSG_PEEK, SHUT_RD, SHUT_RDWR, SHUT_WR

type
  Limits* = object
    body*: int            ## Bytes of a body.
    head*: int            ## Bytes of the request line and the headers.
    headers*: int         ## Their number.
    connections*: int     ## Open at once; more wait until one is closed.
    seconds*: int         ## For one request to arrive, and for its answer to be taken.
    idleSeconds*: int     ## Between two requests of a connection.

  Answer* = object
    code*: HttpCode
    body*: JsonNode

  Handler* = proc (request: Request): Answer {.closure, gcsafe.}

  RequestError* = object of CatchableError  ## A request that cannot be answered; the message is shown to the client.
    code*: HttpCode

  Connection = ref object
    socket: AsyncSocket
    address: string
    received: string      # of which `taken` bytes are read
    taken: int
    busy: bool            # a request has begun, and its answer is not yet sent
    deadline: MonoTime
    late: bool            # the deadline is over

  Server* = ref object
    handler: Handler
    limits: Limits
    listener: AsyncSocket
    connections: seq[Connection]
    stopping, listening: bool

const
  tokens = Letters + Digits + {'!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~'}
  piece = 64 * 1024
  methods = {"GET": HttpGet, "HEAD": HttpHead, "POST": HttpPost, "PUT": HttpPut, "DELETE": HttpDelete,
             "PATCH": HttpPatch, "OPTIONS": HttpOptions, "TRACE": HttpTrace, "CONNECT": HttpConnect}

proc refuse*(code: HttpCode, fact: string) {.noreturn.} =
  ## End the request with a JSON error.
  var error = newException(RequestError, fact)
  error.code = code
  raise error

proc errorAnswer*(code: HttpCode, fact: string): Answer =
  Answer(code: code, body: %*{"error": fact})

proc seconds(number: int): Duration = initDuration(seconds = number)

proc halt(connection: Connection, how: cint) =
  ## Make a pending read return what has arrived, and then the end of the stream.
  discard posix.shutdown(connection.socket.getFd, how)

proc hasBegun(connection: Connection): bool =
  ## Whether a request has begun, be it that its first bytes are still with the system.
  var byte: char
  connection.busy or posix.recv(connection.socket.getFd, addr byte, 1, MSG_PEEK) > 0

# --- reading ---

proc more(connection: Connection): Future[bool] {.async.} =
  ## Wait for more bytes; false at the end of the stream.
  let bytes = await connection.socket.recv(piece)
  if connection.taken > 0:
    connection.received = connection.received[connection.taken .. ^1]
    connection.taken = 0
  connection.received.add bytes
  return bytes.len > 0

proc needMore(connection: Connection) {.async.} =
  if not await connection.more:
    if connection.late: refuse(Http408, "the request did not arrive in time")
    refuse(Http400, "the request ends too early")

proc left(connection: Connection): int = connection.received.len - connection.taken

proc take(connection: Connection, count: int): string =
  result = connection.received[connection.taken ..< connection.taken + count]
  connection.taken += count

proc find(connection: Connection, text: string, start = 0): int =
  ## How many bytes come before a text; -1 if it has not arrived.
  let found = connection.received.find(text, connection.taken + start)
  if found < 0: -1 else: found - connection.taken

proc readHead(connection: Connection, limits: Limits): Future[string] {.async.} =
  ## The request line and the headers, without the empty line behind them; "" if the connection ends before a request.
  var searched = 0
  while true:
    if not connection.busy and connection.left > 0:
      connection.busy = true
      connection.deadline = getMonoTime() + limits.seconds.seconds
    while connection.find("\r\n") == 0: discard connection.take(2)
    let stop = connection.find("\r\n\r\n", searched)
    let length = if stop < 0: connection.left else: stop
    if length > limits.head: refuse(Http431, "the headers are longer than " & $limits.head & " bytes")
    if stop >= 0:
      let head = connection.take(stop + 4)
      return head[0 ..< stop]
    if connection.find("\n\n") >= 0: refuse(Http400, "a line does not end with CR LF")
    searched = max(0, connection.left - 3)
    if not await connection.more:
      if connection.late and connection.busy: refuse(Http408, "the request did not arrive in time")
      if connection.left > 0: refuse(Http400, "the request ends too early")
      return ""

proc parseHead(head: string, request: var Request, limits: Limits) =
  let lines = head.split("\r\n")
  for line in lines:
    for letter in line:
      if (letter < ' ' and letter != '\t') or letter == '\x7f': refuse(Http400, "a control character in the headers")
  let parts = lines[0].split(' ')
  if parts.len != 3: refuse(Http400, "the request line is not METHOD PATH HTTP/1.1")
  if parts[0].len == 0 or not parts[0].allCharsInSet(tokens): refuse(Http400, "the method is not a word")
  case parts[2]
  of "HTTP/1.1": request.protocol = (parts[2], 1, 1)
  of "HTTP/1.0": request.protocol = (parts[2], 1, 0)
  else: refuse(Http400, "the protocol is neither HTTP/1.1 nor HTTP/1.0")
  var target = parts[1]
  if target.toLowerAscii.startsWith("http://"):  # as to a proxy
    let slash = target.find('/', "http://".len)
    target = if slash < 0: "/" else: target[slash .. ^1]
  if not target.startsWith("/"): refuse(Http400, "the path does not begin with a slash")
  let fragment = target.find('#')
  if fragment >= 0: target.setLen fragment
  let question = target.find('?')
  request.url = initUri()
  request.url.path = if question < 0: target else: target[0 ..< question]
  request.url.query = if question < 0: "" else: target[question + 1 .. ^1]
  request.headers = newHttpHeaders()
  if lines.len - 1 > limits.headers: refuse(Http431, "more than " & $limits.headers & " headers")
  for line in lines[1 .. ^1]:
    let colon = line.find(':')
    if colon < 1 or not line[0 ..< colon].allCharsInSet(tokens): refuse(Http400, "a header is not NAME: VALUE")
    request.headers.add(line[0 ..< colon], line[colon + 1 .. ^1].strip)
  var known = false
  for (name, meaning) in methods:
    if parts[0] == name: (request.reqMethod, known) = (meaning, true)
  if not known: refuse(Http405, "use GET or POST")

proc values(request: Request, name: string): seq[string] =
  ## What the headers of a name say; each may hold several values.
  for (key, value) in request.headers.pairs:
    if cmpIgnoreCase(key, name) == 0:
      for part in value.split(','): result.add part.strip

proc wholeNumber(text: string, digits: set[char], most: int): int =
  ## Its digits, or -1; longer numbers than `most` digits are no numbers either.
  if text.len == 0 or text.len > most or not text.allCharsInSet(digits): return -1
  if digits == Digits: parseInt(text) else: parseHexInt(text)

proc needRoom(length: int, limits: Limits) =
  if length > limits.body: refuse(Http413, "the body is longer than " & $limits.body & " bytes")

proc readLine(connection: Connection): Future[string] {.async.} =
  while true:
    let stop = connection.find("\r\n")
    if stop >= 0:
      let line = connection.take(stop + 2)
      return line[0 ..< stop]
    if connection.left > 256: refuse(Http400, "a chunk's size is not hexadecimal")
    await connection.needMore

proc readChunks(connection: Connection, limits: Limits): Future[string] {.async.} =
  var body = ""
  while true:
    let line = await connection.readLine
    let size = wholeNumber(line.split(';')[0].strip, HexDigits, 8)
    if size < 0: refuse(Http400, "a chunk's size is not hexadecimal, or has more than eight digits")
    needRoom(body.len + size, limits)
    if size == 0: break
    while connection.left < size + 2: await connection.needMore
    body.add connection.take(size)
    if connection.take(2) != "\r\n": refuse(Http400, "a chunk is longer than its size")
  for _ in 0 .. limits.headers:
    let trailer = await connection.readLine
    if trailer.len == 0: return body
  refuse(Http400, "too many trailers")

proc readBody(connection: Connection, request: Request, limits: Limits): Future[string] {.async.} =
  let encodings = request.values("Transfer-Encoding")
  let lengths = request.values("Content-Length")
  if encodings.len > 0 and (lengths.len > 0 or request.protocol.minor == 0):
    refuse(Http400, "Transfer-Encoding cannot be used here")
  if encodings.len > 0 and (encodings.len > 1 or cmpIgnoreCase(encodings[0], "chunked") != 0):
    refuse(Http400, "the only Transfer-Encoding that can be read is chunked")
  var length = 0
  if lengths.len > 0:
    length = wholeNumber(lengths[0], Digits, 18)
    if length < 0: refuse(Http400, "Content-Length is not a number")
    for each in lengths:
      if each != lengths[0]: refuse(Http400, "two different Content-Length")
    needRoom(length, limits)
  elif encodings.len == 0:
    if request.reqMethod == HttpPost: refuse(Http411, "Content-Length is missing")
    return ""
  for expected in request.values("Expect"):
    if cmpIgnoreCase(expected, "100-continue") != 0: refuse(Http417, "the only expectation that can be met is 100-continue")
    if connection.left == 0: await connection.socket.send("HTTP/1.1 100 Continue\r\n\r\n")
  if encodings.len > 0: return await connection.readChunks(limits)
  while connection.left < length: await connection.needMore
  return connection.take(length)

# --- answering ---

proc keepsOpen(request: Request): bool =
  for option in request.values("Connection"):
    if cmpIgnoreCase(option, "close") == 0: return false
    if cmpIgnoreCase(option, "keep-alive") == 0: return true
  request.protocol.minor == 1

proc send(connection: Connection, request: Request, answer: Answer, open: bool) {.async.} =
  let body = $answer.body & "\n"
  var headers = {"Content-Type": "application/json", "Content-Length": $body.len}.newHttpHeaders
  headers["Connection"] = if open: "keep-alive" else: "close"
  if answer.code == Http405: headers["Allow"] = "GET, HEAD, POST"
  await request.respond(answer.code, if request.reqMethod == HttpHead: "" else: body, headers)

proc finish(connection: Connection) {.async.} =
  ## Take what the client still sends for a moment: closing at once would destroy the answer on its way.
  connection.halt(SHUT_WR)
  connection.deadline = min(connection.deadline, getMonoTime() + 10.seconds)
  connection.taken = connection.received.len
  while await connection.more: connection.taken = connection.received.len

proc answerOne(server: Server, connection: Connection): Future[bool] {.async.} =
  ## Read and answer one request; false if the connection ends with it.
  var request = Request(client: connection.socket, hostname: connection.address, headers: newHttpHeaders(),
                        reqMethod: HttpGet, protocol: ("HTTP/1.1", 1, 1))
  var answer: Answer
  var open = false
  try:
    let head = await connection.readHead(server.limits)
    if head.len == 0: return false
    parseHead(head, request, server.limits)
    request.body = await connection.readBody(request, server.limits)
    answer = server.handler(request)
    open = request.keepsOpen and not server.stopping
  except RequestError as error:
    answer = errorAnswer(error.code, error.msg)
  connection.deadline = getMonoTime() + server.limits.seconds.seconds
  await connection.send(request, answer, open)
  if not open: await connection.finish
  return open

proc converse(server: Server, connection: Connection) {.async.} =
  ## Serve one connection to its end. What goes wrong in it ends it, and nothing else.
  try:
    while true:
      connection.busy = connection.left > 0
      let patience = if connection.busy: server.limits.seconds else: server.limits.idleSeconds
      connection.deadline = getMonoTime() + patience.seconds
      if server.stopping and not connection.hasBegun: connection.halt(SHUT_RD)
      let open = await server.answerOne(connection)
      if not open: break
  except OSError:
    discard  # the client has gone
  except Exception:
    stderr.writeLine "server: " & getCurrentExceptionMsg().splitLines[0]
  try:
    connection.socket.close()
  except OSError:
    discard
  server.connections.del server.connections.find(connection)

proc take(server: Server, socket: AsyncSocket, address: string) =
  let connection = Connection(socket: socket, address: address)
  server.connections.add connection
  asyncCheck server.converse(connection)

proc acceptAll(server: Server) {.async.} =
  while server.listening:
    if server.connections.len >= server.limits.connections:
      await sleepAsync(20)
      continue
    try:
      let (address, socket) = await server.listener.acceptAddr()
      socket.setSockOpt(OptNoDelay, true, level = posix.IPPROTO_TCP)
      server.take(socket, address)
    except OSError:  # too many open files, or a client that has gone already
      await sleepAsync(20)

proc acceptWaiting(server: Server) =
  ## Take the connections that the system has taken already.
  while true:
    let handle = posix.accept(server.listener.getFd, nil, nil)
    if handle == osInvalidSocket: break
    handle.setBlocking(false)
    register(handle.AsyncFD)
    server.take(newAsyncSocket(handle.AsyncFD, buffered = false), "")

proc watch(server: Server) {.async.} =
  ## Wake the connections whose time is over.
  while true:
    let before = getMonoTime()
    await sleepAsync(200)
    let now = getMonoTime()
    let blocked = now - before - initDuration(milliseconds = 200)  # a model was running: nobody was late in that time
    for connection in server.connections:
      connection.deadline = connection.deadline + blocked
      if now > connection.deadline:
        connection.halt(if connection.late: SHUT_RDWR else: SHUT_RD)
        connection.late = true
        connection.deadline = now + 10.seconds

# --- the server ---

proc newServer*(handler: Handler, limits: Limits): Server = Server(handler: handler, limits: limits)

proc listen*(server: Server, host: string, port: Port): Port =
  ## Take connections; return the port, which the system chooses for port 0.
  let domain = if ':' in host: Domain.AF_INET6 else: Domain.AF_INET
  server.listener = newAsyncSocket(domain, buffered = false)
  server.listener.setSockOpt(OptReuseAddr, true)
  server.listener.bindAddr(port, host)
  server.listener.listen(1024)
  server.listening = true
  asyncCheck server.acceptAll
  asyncCheck server.watch
  server.listener.getLocalAddr[1]

proc stop*(server: Server) {.async.} =
  ## Take no more connections, and answer every request of those that there are.
  if server.stopping: return
  server.stopping = true
  server.listening = false
  server.acceptWaiting()
  server.listener.close()
  for connection in server.connections:
    if not connection.hasBegun: connection.halt(SHUT_RD)
  while server.connections.len > 0: await sleepAsync(10)
