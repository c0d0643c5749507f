-- TorchScript models and AOTInductor packages in LuaJIT, through the C API in .torchlink/capi.
--
-- Failures are Lua errors with libtorch's message. Models and values are freed when they are garbage.
local ffi = require("ffi")

ffi.cdef [[
typedef struct tm_model tm_model;
typedef struct tm_value tm_value;
typedef struct { void *data; const int64_t *shape; const int64_t *strides; int64_t elements; int32_t dimensions;
                 int32_t dtype; int32_t element_size; int32_t is_contiguous; int32_t is_cpu; } tm_tensor_info;
typedef struct { const char *name; const char *type; const char *default_text; int32_t has_default;
                 int32_t keyword_only; } tm_argument;
const char *tm_last_error(void);
int32_t tm_model_load(const char *path, const char *device, tm_model **model);
int32_t tm_model_free(tm_model *model);
int32_t tm_model_argument_count(const tm_model *model, const char *method, size_t *count);
int32_t tm_model_argument(const tm_model *model, const char *method, size_t index, tm_argument *argument);
int32_t tm_model_example_shape(const tm_model *model, const char *method, size_t index, int64_t *shape, int32_t *dimensions);
int32_t tm_model_forward(const tm_model *model, const tm_value *const *arguments, size_t count, tm_value **result);
int32_t tm_value_none(tm_value **value);
int32_t tm_value_bool(int32_t boolean, tm_value **value);
int32_t tm_value_int(int64_t number, tm_value **value);
int32_t tm_value_float(double number, tm_value **value);
int32_t tm_value_string(const char *text, size_t size, tm_value **value);
int32_t tm_value_list(const tm_value *const *items, size_t count, tm_value **value);
int32_t tm_value_free(tm_value *value);
int32_t tm_value_kind(const tm_value *value, int32_t *kind);
int32_t tm_value_get_bool(const tm_value *value, int32_t *boolean);
int32_t tm_value_get_int(const tm_value *value, int64_t *number);
int32_t tm_value_get_float(const tm_value *value, double *number);
int32_t tm_value_get_string(const tm_value *value, const char **text, size_t *size);
int32_t tm_value_length(const tm_value *value, size_t *length);
int32_t tm_value_item(const tm_value *value, size_t index, tm_value **item);
int32_t tm_value_key(const tm_value *dict, size_t index, tm_value **key);
int32_t tm_tensor_copy(const void *data, int32_t dtype, const int64_t *shape, int32_t dimensions, const int64_t *strides, tm_value **value);
int32_t tm_tensor_get_info(const tm_value *value, tm_tensor_info *info);
int32_t tm_tensor_to_dtype(const tm_value *value, int32_t dtype, tm_value **result);
int32_t tm_tensor_to_cpu(const tm_value *value, tm_value **result);
]]

local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
local C = ffi.load(here .. ".torchlink/capi/libtorchmodel.so")

local torchmodel = {
  float32 = { number = 6, type = "float" }, float64 = { number = 7, type = "double" },
  int64 = { number = 4, type = "int64_t" }, int32 = { number = 3, type = "int32_t" },
  uint8 = { number = 0, type = "uint8_t" }, int8 = { number = 1, type = "int8_t" }, int16 = { number = 2, type = "int16_t" },
}
local KINDS = { [0] = "none", "bool", "int", "float", "complex", "string", "tensor", "list", "tuple", "dict", "other" }

local function check(status)
  if status ~= 0 then error(ffi.string(C.tm_last_error()), 3) end
end

local Value = {}
Value.__index = Value

local function made(write)
  local out = ffi.new("tm_value *[1]")
  check(write(out))
  return setmetatable({ handle = ffi.gc(out[0], C.tm_value_free) }, Value)
end

local function handles_of(values)
  local handles = ffi.new("const tm_value *[?]", math.max(#values, 1))
  for i, value in ipairs(values) do handles[i - 1] = value.handle end
  return handles
end

-- The numbers of a nested table in row-major order, and its shape.
local function flattened(numbers)
  local flat, shape = {}, {}
  local function walk(part, depth)
    if type(part) ~= "table" then
      if depth <= #shape then error("the rows of the table have different depths", 4) end
      flat[#flat + 1] = part
      return
    end
    if shape[depth] == nil and #flat == 0 then shape[depth] = #part end
    if shape[depth] ~= #part then error("the rows of the table have different lengths", 4) end
    for _, inner in ipairs(part) do walk(inner, depth + 1) end
  end
  walk(numbers, 1)
  return flat, shape
end

-- A tensor from a table of numbers, nested or flat with a shape: tensor({{1, 2}, {3, 4}}), tensor(flat, {2, 2}).
function torchmodel.tensor(numbers, shape, dtype)
  dtype = dtype or torchmodel.float32
  if shape == nil then numbers, shape = flattened(numbers) end
  local elements = 1
  for _, size in ipairs(shape) do elements = elements * size end
  if elements ~= #numbers then error(("the shape has %d elements, and %d are given"):format(elements, #numbers), 2) end
  local data = ffi.new(dtype.type .. "[?]", math.max(elements, 1), numbers)
  local sizes = ffi.new("int64_t[?]", math.max(#shape, 1), shape)
  return made(function(out) return C.tm_tensor_copy(data, dtype.number, sizes, #shape, nil, out) end)
end

function torchmodel.int(number) return made(function(out) return C.tm_value_int(number, out) end) end
function torchmodel.float(number) return made(function(out) return C.tm_value_float(number, out) end) end
function torchmodel.bool(boolean) return made(function(out) return C.tm_value_bool(boolean and 1 or 0, out) end) end
function torchmodel.string(text) return made(function(out) return C.tm_value_string(text, #text, out) end) end
function torchmodel.none() return made(function(out) return C.tm_value_none(out) end) end

function torchmodel.list(items)
  local handles = handles_of(items)
  return made(function(out) return C.tm_value_list(handles, #items, out) end)
end

function Value:kind()
  local kind = ffi.new("int32_t[1]")
  check(C.tm_value_kind(self.handle, kind))
  return KINDS[kind[0]]
end

local function info_of(value)
  local info = ffi.new("tm_tensor_info")
  check(C.tm_tensor_get_info(value.handle, info))
  return info
end

function Value:shape()
  local info, shape = info_of(self), {}
  for i = 1, info.dimensions do shape[i] = tonumber(info.shape[i - 1]) end
  return shape
end

-- The elements of a tensor in row-major order, as Lua numbers.
function Value:numbers()
  local wide = made(function(out) return C.tm_tensor_to_dtype(self.handle, torchmodel.float64.number, out) end)
  local plain = made(function(out) return C.tm_tensor_to_cpu(wide.handle, out) end)
  local info, numbers = info_of(plain), {}
  local data = ffi.cast("const double *", info.data)
  for i = 1, tonumber(info.elements) do numbers[i] = data[i - 1] end
  return numbers
end

-- A none, bool, number or string as a Lua value.
function Value:plain()
  local kind = self:kind()
  if kind == "none" then return nil end
  if kind == "bool" then
    local boolean = ffi.new("int32_t[1]")
    check(C.tm_value_get_bool(self.handle, boolean))
    return boolean[0] ~= 0
  elseif kind == "int" then
    local number = ffi.new("int64_t[1]")
    check(C.tm_value_get_int(self.handle, number))
    return tonumber(number[0])
  elseif kind == "float" then
    local number = ffi.new("double[1]")
    check(C.tm_value_get_float(self.handle, number))
    return number[0]
  end
  local text, size = ffi.new("const char *[1]"), ffi.new("size_t[1]")
  check(C.tm_value_get_string(self.handle, text, size))
  return ffi.string(text[0], size[0])
end

local function each(value, read)
  local length, items = ffi.new("size_t[1]"), {}
  check(C.tm_value_length(value.handle, length))
  for i = 1, tonumber(length[0]) do
    items[i] = made(function(out) return read(value.handle, i - 1, out) end)
  end
  return items
end

-- The items of a list, a tuple or a dict; the keys of a dict in the same order.
function Value:items() return each(self, C.tm_value_item) end
function Value:keys() return each(self, C.tm_value_key) end

local Model = {}
Model.__index = Model

-- Load a model on a device: "cpu", "cuda:0", …
function torchmodel.load(path, device)
  local out = ffi.new("tm_model *[1]")
  check(C.tm_model_load(path, device or "cpu", out))
  return setmetatable({ handle = ffi.gc(out[0], C.tm_model_free) }, Model)
end

-- Call forward; missing arguments take their defaults.
function Model:forward(...)
  local arguments = { ... }
  local handles = handles_of(arguments)
  return made(function(out) return C.tm_model_forward(self.handle, handles, #arguments, out) end)
end

-- A shape for each argument of forward that has no default: a guess from the weights.
function Model:example_shapes()
  local count, shapes = ffi.new("size_t[1]"), {}
  check(C.tm_model_argument_count(self.handle, "forward", count))
  for i = 0, tonumber(count[0]) - 1 do
    local argument, sizes, dimensions = ffi.new("tm_argument"), ffi.new("int64_t[64]"), ffi.new("int32_t[1]")
    check(C.tm_model_argument(self.handle, "forward", i, argument))
    if argument.has_default ~= 0 then break end
    check(C.tm_model_example_shape(self.handle, "forward", i, sizes, dimensions))
    local shape = {}
    for d = 1, dimensions[0] do shape[d] = tonumber(sizes[d - 1]) end
    shapes[#shapes + 1] = shape
  end
  return shapes
end

return torchmodel
