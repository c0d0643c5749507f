## Values as JSON:
##
##   {"type":"tensor","data_type":"float32","shape":[1,3],"value":[1,2,3]}    elements in row-major order, flat or nested
##   {"type":"scalar","data_type":"int64","value":30}                         also a plain number, true or false
##   {"type":"string","value":"text"}                                         also a plain string
##   {"type":"tuple","value":[…]}, {"type":"none"}                            also null
##   {"type":"generic_dict","value":{"key":…}}                                with other keys: {"type":"dict","value":[[1,…]]}
##   […]                                                                      a list
##
## Numbers that are not finite are "NaN", "Infinity" and "-Infinity"; a complex one is [re, im].

import std/[json, math, strutils, tables, unicode]
import ./torchvalues

type
  ValueFault* = object of CatchableError  ## Not JSON, or not this format; the message has the place.

const
  deepest = 64                # levels of containers
  largest = 1'i64 shl 40      # elements of a tensor
  mostDimensions = 64
  notFinite = {"NaN": NaN, "Infinity": Inf, "-Infinity": -Inf, "nan": NaN, "inf": Inf, "-inf": -Inf}.toTable

proc wrong(place, fact: string) {.noreturn.} =
  raise newException(ValueFault, (if place.len > 0: "at " & place & ": " else: "") & fact)

proc shortened(text: string): string = (if text.runeLen > 40: text.runeSubStr(0, 40) & "…" else: text)

# --- text ---

proc checkJson(text: string) =
  ## Nim's parser takes comments, unknown escapes and numbers such as `.5`, and recurses as deep as the text says; so what
  ## it gets is checked first.
  var at = 0
  var open: seq[char]
  proc bad(fact: string) = wrong("", "the body is not JSON: " & fact & " at byte " & $at)
  proc skipBlanks() =
    while at < text.len and text[at] in {' ', '\t', '\r', '\n'}: inc at
  proc here(): char = (if at < text.len: text[at] else: '\0')
  proc digits() =
    if here() notin Digits: bad "a digit is missing"
    while here() in Digits: inc at
  proc literal(word: string) =
    if not text.continuesWith(word, at): bad "an unknown word"
    at += word.len
  proc quoted() =
    if here() != '"': bad "a string is missing"
    inc at
    while here() != '"':
      if at >= text.len: bad "a string without an end"
      if here() < ' ': bad "a control character in a string"
      if here() == '\\':
        inc at
        if here() == 'u':
          for _ in 1 .. 4:
            inc at
            if here() notin HexDigits: bad "an incomplete escape"
        elif here() notin {'"', '\\', '/', 'b', 'f', 'n', 'r', 't'}: bad "an unknown escape"
      inc at
    inc at
  proc number() =
    if here() == '-': inc at
    if here() == '0': inc at else: digits()
    if here() == '.':
      inc at
      digits()
    if here() in {'e', 'E'}:
      inc at
      if here() in {'+', '-'}: inc at
      digits()
  if validateUtf8(text) >= 0: wrong("", "the body is not UTF-8")
  while true:  # a value
    skipBlanks()
    case here()
    of '[', '{':
      open.add here()
      if open.len > 2 * deepest: bad "too many levels"
      inc at
      skipBlanks()
      if here() == (if open[^1] == '[': ']' else: '}'):
        discard open.pop
        inc at
      elif open[^1] == '[': continue
      else:
        quoted()
        skipBlanks()
        if here() != ':': bad "a colon is missing"
        inc at
        continue
    of '"': quoted()
    of 't': literal "true"
    of 'f': literal "false"
    of 'n': literal "null"
    else: number()
    while true:  # what follows a value
      skipBlanks()
      if open.len == 0:
        if at < text.len: bad "something follows the value"
        return
      if here() == ',':
        inc at
        if open[^1] == '{':
          skipBlanks()
          quoted()
          skipBlanks()
          if here() != ':': bad "a colon is missing"
          inc at
        break
      if here() != (if open[^1] == '[': ']' else: '}'): bad "a comma or a bracket is missing"
      discard open.pop
      inc at

proc parse*(text: string): JsonNode =
  ## Raises a `ValueFault`.
  checkJson(text)
  try:
    parseJson(text)
  except ValueError as error:  # a number that no float can hold
    wrong("", "the body is not JSON: " & error.msg)

# --- numbers ---

proc isLargeInt(node: JsonNode): bool =
  ## Nim keeps an integer beyond int64 as a string that it prints without quotes.
  node.kind == JString and node.str.len > 0 and ($node)[0] != '"'

proc shown(node: JsonNode): string =
  case node.kind
  of JArray: "an array"
  of JObject: "an object"
  else: shortened($node)

proc toFloat(node: JsonNode, dtype, place: string): float64 =
  case node.kind
  of JInt: return node.num.float64
  of JFloat:
    if classify(node.fnum) in {fcInf, fcNegInf, fcNan}: wrong(place, "a number does not fit " & dtype)
    return node.fnum
  of JString:
    if node.isLargeInt: return parseFloat(node.str)
    if node.str in notFinite: return notFinite[node.str]
  else: discard
  wrong(place, shown(node) & " is not " & dtype)

proc limits(dtype: string): (int64, int64) =
  case dtype
  of "int32": (int32.low.int64, int32.high.int64)
  of "int16": (int16.low.int64, int16.high.int64)
  of "int8": (int8.low.int64, int8.high.int64)
  of "uint8": (0'i64, 255'i64)
  of "uint16": (0'i64, 65535'i64)
  of "uint32": (0'i64, uint32.high.int64)
  of "uint64": (0'i64, int64.high)
  else: (int64.low, int64.high)

proc toInt(node: JsonNode, dtype: string, range: (int64, int64), place: string): int64 =
  ## A uint64 above int64's largest by its bits.
  if dtype == "bool":
    if node.kind == JBool: return node.bval.int64
    if node.kind == JInt and node.num in 0 .. 1: return node.num
    wrong(place, shown(node) & " is not bool")
  case node.kind
  of JInt: result = node.num
  of JFloat:
    if node.fnum != node.fnum.floor or node.fnum.abs > 9007199254740992.0: wrong(place, shown(node) & " is not " & dtype)
    result = node.fnum.int64
  else:
    if not node.isLargeInt: wrong(place, shown(node) & " is not " & dtype)
    if dtype == "uint64" and node.str[0] != '-':
      try: return cast[int64](parseBiggestUInt(node.str))
      except ValueError: discard
    wrong(place, shown(node) & " does not fit " & dtype)
  if result < range[0] or result > range[1]: wrong(place, shown(node) & " does not fit " & dtype)

proc isPair(node: JsonNode): bool =
  node.kind == JArray and node.len == 2 and node[0].kind != JArray and node[1].kind != JArray

# --- JSON to values ---

proc dtypeOf(node: JsonNode, place: string): string =
  let named = node{"data_type"}
  if named.isNil: wrong(place, "no data_type")
  if named.kind != JString or named.str.carrier == carryNothing:
    wrong(place, "data_type " & shown(named) & " is unknown: write one of torch's names, such as \"float32\"")
  named.str

proc shapeOf(node: JsonNode, place: string): seq[int] =
  let sizes = node{"shape"}
  if sizes.isNil or sizes.kind != JArray: wrong(place, "a shape must be an array of whole numbers")
  if sizes.len > mostDimensions: wrong(place, "a tensor cannot have " & $sizes.len & " dimensions")
  var count = 1'i64
  for size in sizes:
    if size.kind != JInt: wrong(place, "a shape must be an array of whole numbers")
    if size.num < 0: wrong(place, $size.num & " is a negative size")
    if size.num > largest or (size.num > 0 and count > largest div size.num): wrong(place, "a tensor of that shape is too large")
    count *= max(size.num, 1)
    result.add size.num.int

proc flatten(node: JsonNode, shape: openArray[int], dimension: int, place: string, flat: var seq[JsonNode]) =
  if node.kind != JArray or node.len != shape[dimension]: wrong(place, "its arrays are not nested as the shape is")
  for row in node:
    if dimension == shape.high: flat.add row
    else: flatten(row, shape, dimension + 1, place, flat)

proc elementsOf(node: JsonNode, shape: openArray[int], complex: bool, place: string): seq[JsonNode] =
  ## As many as the shape says: written flat, or nested as the shape is.
  var count = 1
  for size in shape: count *= size
  if node.kind != JArray:
    if shape.len > 0: wrong(place, "the elements must be a JSON array")
    return @[node]
  if complex and shape.len == 0 and node.isPair: return @[node]
  var nested = shape.len > 0 and node.len > 0 and node[0].kind == JArray
  if nested and complex:  # a flat array of pairs looks nested, too
    nested = node.len != count
    if not nested:
      for each in node: nested = nested or not each.isPair
  if nested: flatten(node, shape, 0, place, result)
  else: result = node.elems
  if result.len != count:
    wrong(place, $result.len & (if result.len == 1: " element" else: " elements") & ", but the shape has " & $count)

proc placeOf(place: string, shape: openArray[int], index: int): string =
  if shape.len == 0: place else: place & "[" & $index & "]"

proc readTensor(node: JsonNode, dtype: string, shape: openArray[int], place: string): Value =
  let complex = dtype.carrier == carryComplex
  let given = elementsOf(node, shape, complex, place)
  try:
    if dtype.carrier == carryInt:
      let range = limits(dtype)
      var numbers = newSeq[int64](given.len)
      for index, each in given: numbers[index] = each.toInt(dtype, range, placeOf(place, shape, index))
      return tensor(dtype, numbers, shape)
    var numbers = newSeqOfCap[float64](given.len * (if complex: 2 else: 1))
    for index, each in given:
      let here = placeOf(place, shape, index)
      if complex and each.kind == JArray:
        if not each.isPair: wrong(here, "a complex number is [re, im]")
        numbers.add each[0].toFloat(dtype, here)
        numbers.add each[1].toFloat(dtype, here)
      else:
        numbers.add each.toFloat(dtype, here)
        if complex: numbers.add 0
    return tensor(dtype, numbers, shape)
  except TorchError as error:
    wrong(place, error.msg)

proc readScalar(node: JsonNode, dtype, place: string): Value =
  case dtype.carrier
  of carryInt:
    let number = node.toInt(dtype, limits(dtype), place)
    if dtype == "bool": value(number != 0) else: value(number)
  of carryComplex:
    if node.isPair: value(node[0].toFloat(dtype, place), node[1].toFloat(dtype, place))
    else: value(node.toFloat(dtype, place), 0.0)
  else: value(node.toFloat(dtype, place))

proc readValue*(node: JsonNode, place: string, depth = 0): Value {.gcsafe.}

proc readItems(nodes: openArray[JsonNode], place: string, depth: int): seq[Value] =
  try:
    for index, each in nodes: result.add each.readValue(place & "[" & $index & "]", depth + 1)
  except CatchableError:
    result.free
    raise

proc readDict(node: JsonNode, place: string, depth: int): Value =
  var items: seq[Value]
  try:
    if node.kind == JObject:
      for key, each in node:
        items.add value(key)
        items.add each.readValue(place & "." & shortened(key), depth + 1)
    elif node.kind == JArray:
      for index, pair in node.elems:
        let here = place & "[" & $index & "]"
        if pair.kind != JArray or pair.len != 2: wrong(here, "not a [key, value] pair")
        items.add pair[0].readValue(here & "[0]", depth + 1)
        if items[^1].kind notin {vkBool, vkInt, vkFloat, vkText}: wrong(here & "[0]", "a key must be a string, a number or a bool")
        items.add pair[1].readValue(here & "[1]", depth + 1)
    else: wrong(place, "a dict must be a JSON object, or an array of [key, value] pairs")
    return container(vkDict, items)
  except CatchableError:
    items.free
    raise

proc readTyped(node: JsonNode, place: string, depth: int): Value =
  let named = node{"type"}
  if named.isNil: wrong(place, "no type: write one of tensor, scalar, string, none, tuple, list, generic_dict, dict")
  let kind = if named.kind == JString: named.str else: ""
  if kind in ["none", "null"]: return noneValue()
  let content = node{"value"}
  if kind notin ["tensor", "scalar", "string", "str", "tuple", "list", "generic_list", "generic_dict", "dict"]:
    if kind == "image": wrong(place, "this server decodes no images: send a tensor")
    wrong(place, "type " & shown(named) & " is unknown: write one of tensor, scalar, string, none, tuple, list, generic_dict, dict")
  if content.isNil: wrong(place, "a " & kind & " without a value")
  let inside = place & ".value"
  case kind
  of "tensor":
    let dtype = node.dtypeOf(place)
    readTensor(content, dtype, node.shapeOf(place & ".shape"), inside)
  of "scalar": readScalar(content, node.dtypeOf(place), inside)
  of "string", "str":
    if content.kind != JString or content.isLargeInt: wrong(inside, "a string must be a JSON string")
    value(content.str)
  of "generic_dict", "dict": readDict(content, inside, depth)
  else:
    if content.kind != JArray: wrong(inside, "the parts of a " & kind & " must be a JSON array")
    var items = readItems(content.elems, inside, depth)
    container(if kind == "tuple": vkTuple else: vkList, items)

proc readValue*(node: JsonNode, place: string, depth = 0): Value {.gcsafe.} =
  ## The caller frees it. Raises a `ValueFault`.
  if depth > deepest: wrong(place.shortened, "nested more than " & $deepest & " levels deep")
  case node.kind
  of JNull: noneValue()
  of JBool: value(node.bval)
  of JInt: value(node.num)
  of JFloat: value(node.toFloat("float64", place))
  of JString:
    if node.isLargeInt: wrong(place, shown(node) & " does not fit int64")
    value(node.str)
  of JArray:
    var items = readItems(node.elems, place, depth)
    container(vkList, items)
  of JObject: readTyped(node, place, depth)

proc readArguments*(node: JsonNode): seq[Value] =
  ## The arguments of a call, which the caller frees.
  if node.kind != JArray: wrong("", "the body must be a JSON array of the arguments")
  readItems(node.elems, "$", 0)

# --- values to JSON ---

proc numberNode(number: float64): JsonNode =
  case classify(number)
  of fcNan: %"NaN"
  of fcInf: %"Infinity"
  of fcNegInf: %"-Infinity"
  else: %number

proc intNode(number: int64, dtype: string): JsonNode =
  if dtype == "bool": return %(number != 0)
  if dtype == "uint64" and number < 0: return parseJson($cast[uint64](number))
  %number

proc tensorNode(given: Value): JsonNode =
  let dtype = given.dtype
  var elements = newJArray()
  case dtype.carrier
  of carryInt:
    for number in given.elements(int64): elements.add intNode(number, dtype)
  of carryComplex:
    let numbers = given.elements(float64)
    for index in 0 ..< numbers.len div 2: elements.add %[numberNode(numbers[2 * index]), numberNode(numbers[2 * index + 1])]
  else:
    for number in given.elements(float64): elements.add numberNode(number)
  %*{"type": "tensor", "data_type": dtype, "shape": given.shape, "value": elements}

proc scalarNode(dtype: string, number: JsonNode): JsonNode = %*{"type": "scalar", "data_type": dtype, "value": number}

proc typedNode(kind: string, content: JsonNode): JsonNode = %*{"type": kind, "value": content}

proc utf8(text: string): string =
  ## Bytes that are not UTF-8 become U+FFFD.
  result = text
  var bad = validateUtf8(result)
  while bad >= 0:
    result = result[0 ..< bad] & "\uFFFD" & result[bad + 1 .. ^1]
    bad = validateUtf8(result)

proc toJson*(given: Value): JsonNode =
  ## Raises a `TorchError` for what JSON cannot express.
  case given.kind
  of vkNone: %*{"type": "none"}
  of vkBool: scalarNode("bool", %given.getBool)
  of vkInt: scalarNode("int64", %given.getInt)
  of vkFloat: scalarNode("float64", numberNode(given.getFloat))
  of vkComplex:
    let parts = given.getComplex
    scalarNode("complex128", %[numberNode(parts[0]), numberNode(parts[1])])
  of vkText: typedNode("string", %given.getText.utf8)
  of vkTensor: tensorNode(given)
  of vkList, vkTuple:
    var items = newJArray()
    for index in 0 ..< given.len: items.add given[index].toJson
    if given.kind == vkTuple: typedNode("tuple", items) else: items
  of vkDict:
    var named = true
    for index in countup(0, given.len - 1, 2): named = named and given[index].kind == vkText
    var entries = if named: newJObject() else: newJArray()
    for index in countup(0, given.len - 1, 2):
      if named: entries[given[index].getText.utf8] = given[index + 1].toJson
      else: entries.add %[given[index].toJson, given[index + 1].toJson]
    typedNode(if named: "generic_dict" else: "dict", entries)
