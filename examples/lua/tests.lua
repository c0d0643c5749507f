package.path = (arg[0]:match("^.*/") or "./") .. "?.lua;" .. package.path
local torchmodel = require("torchmodel")

local function fails(text, action)
  local ok, message = pcall(action)
  assert(not ok and tostring(message):find(text, 1, true), ("expected an error with %q, got %s"):format(text, tostring(message)))
end

local model = torchmodel.load("model.pt")
local output = model:forward(torchmodel.tensor({ { 1, 1, 1, 1 }, { 0, 0, 0, 0 } }))
assert(output:kind() == "tensor")
local shape, numbers = output:shape(), output:numbers()
assert(shape[1] == 2 and shape[2] == 2)
assert(numbers[1] == 2.5 and numbers[2] == -0.75)

fails("shapes cannot be multiplied", function() model:forward(torchmodel.tensor({ { 1, 1, 1 } })) end)
fails("different lengths", function() torchmodel.tensor({ { 1, 2 }, { 3 } }) end)
fails("missing.pt", function() torchmodel.load("missing.pt") end)
assert(torchmodel.string("a\0b"):plain() == "a\0b")
assert(torchmodel.list({ torchmodel.int(7) }):items()[1]:plain() == 7)
print("ok")
