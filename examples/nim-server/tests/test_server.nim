## Starts the built server on a free port and asks it, as a client does. For your own models, write down what they answer.

import std/[httpclient, json, os, osproc, posix, streams, strutils, unittest]

const
  project = currentSourcePath().parentDir.parentDir
  ones = """[{"type":"tensor","data_type":"float32","shape":[1,4],"value":[1,1,1,1]}]"""
  answer = """{"type":"tensor","data_type":"float32","shape":[1,2],"value":[2.5,-0.75]}"""

let server = startProcess(project / "build" / "server", args = ["--models", project / "models", "--port", "0", "--max-body", "100000"])
let address = server.outputStream.readLine.split(' ')[^1]

proc ask(path: string, body = "", httpMethod = HttpPost): (int, JsonNode) =
  let client = newHttpClient(timeout = 60_000)
  defer: client.close()
  let response = client.request(address & path, httpMethod, body)
  (response.code.int, parseJson(response.body))

suite "the server":
  test "is alive and lists its models":
    check ask("/ping", httpMethod = HttpGet) == (200, %*{"status": "Healthy"})
    let (code, listed) = ask("/models", httpMethod = HttpGet)
    check code == 200
    check listed["models"][0]["file"].getStr == "model.pt"

  test "answers by a model's file and by its name":
    for path in ["/serve?servable_identifier=model.pt", "/predictions/model"]:
      check ask(path, ones) == (200, parseJson(answer))

  test "answers a bad request with an error, and the next one as before":
    for (path, body, expected) in [
      ("/predictions/model", "[1", 400),
      ("/predictions/model", "[]", 400),
      ("/predictions/model", ones.replace("[1,4]", "[1,5]"), 400),
      ("/predictions/none", ones, 404),
      ("/serve?servable_identifier=../model.pt", ones, 400),
      ("/no-such-route", ones, 404),
      ("/predictions/model", ' '.repeat(100_001), 413),
    ]:
      let (code, error) = ask(path, body)
      checkpoint path & " " & $error
      check code == expected
      check error["error"].getStr.len > 0
    check ask("/predictions/model", ones)[0] == 200

  test "ends when it is asked to":
    check kill(server.processID.Pid, SIGTERM) == 0
    check server.waitForExit(60_000) == 0
