-- Runs a model with tensors of ones: luajit main.lua [--repeat N] MODEL [SIZE...]
-- The sizes are those of each input; without them they follow from the model.
package.path = (arg[0]:match("^.*/") or "./") .. "?.lua;" .. package.path
local torchmodel = require("torchmodel")

local function show(value)
  local kind = value:kind()
  if kind == "tensor" then
    local texts = {}
    for i, number in ipairs(value:numbers()) do texts[i] = ("%.9g"):format(number) end
    print(table.concat(texts, " "))
  elseif kind == "list" or kind == "tuple" or kind == "dict" then
    for _, item in ipairs(value:items()) do show(item) end
  else
    print(tostring(value:plain()))
  end
end

local function ones(shape)
  local numbers, elements = {}, 1
  for _, size in ipairs(shape) do elements = elements * size end
  for i = 1, elements do numbers[i] = 1 end
  return torchmodel.tensor(numbers, shape)
end

local function run(path, sizes, count)
  local model = torchmodel.load(path)
  local shapes = model:example_shapes()
  for number = 1, count do
    local inputs = {}
    for i, shape in ipairs(shapes) do inputs[i] = ones(#sizes > 0 and sizes or shape) end
    local output = model:forward(unpack(inputs))
    if number == count then show(output) end
    -- LuaJIT sees handles of a few bytes, not the tensors behind them.
    if number % 100 == 0 then collectgarbage() end
  end
end

local arguments, count = { unpack(arg) }, 1
if arguments[1] == "--repeat" then
  table.remove(arguments, 1)
  count = tonumber(table.remove(arguments, 1))
end
local path, sizes = table.remove(arguments, 1), {}
for i, text in ipairs(arguments) do
  sizes[i] = text:match("^%d+$") and tonumber(text)
  if not sizes[i] then path = nil end
end
if path == nil or count == nil then
  io.stderr:write("usage: luajit main.lua [--repeat N] MODEL [SIZE...]\n")
  os.exit(2)
end
local ok, message = pcall(run, path, sizes, count)
if not ok then
  io.stderr:write("main.lua: ", tostring(message), "\n")
  os.exit(1)
end
