//! What torchmodel.zig uses of .torchlink/capi/torchmodel.h.
//! (`b.addTranslateC` reads the whole header, but its first build takes minutes.)

pub const tm_model = opaque {};
pub const tm_value = opaque {};
pub const tm_status = i32;
pub const tm_kind = i32;
pub const tm_dtype = i32;

pub const TM_OK = 0;
pub const TM_ERROR_ARGUMENT = 1;
pub const TM_ERROR_FILE = 2;
pub const TM_ERROR_TYPE = 3;
pub const TM_ERROR_MODEL = 4;
pub const TM_ERROR_MEMORY = 5;
pub const TM_ERROR_UNSUPPORTED = 6;

pub const TM_UINT8 = 0;
pub const TM_INT8 = 1;
pub const TM_INT16 = 2;
pub const TM_INT32 = 3;
pub const TM_INT64 = 4;
pub const TM_FLOAT16 = 5;
pub const TM_FLOAT32 = 6;
pub const TM_FLOAT64 = 7;
pub const TM_UINT16 = 27;
pub const TM_UINT32 = 28;
pub const TM_UINT64 = 29;

pub const TM_MOST_DIMENSIONS = 64;

pub const tm_tensor_info = extern struct {
    data: ?*anyopaque,
    shape: [*c]const i64,
    strides: [*c]const i64,
    elements: i64,
    dimensions: i32,
    dtype: tm_dtype,
    element_size: i32,
    is_contiguous: i32,
    is_cpu: i32,
};

pub const tm_argument = extern struct {
    name: [*:0]const u8,
    type: [*:0]const u8,
    default_text: [*:0]const u8,
    has_default: i32,
    keyword_only: i32,
};

const Text = [*:0]const u8;
const Values = [*]const *const tm_value;

pub extern fn tm_last_error() Text;
pub extern fn tm_model_load(path: Text, device: Text, model: *?*tm_model) tm_status;
pub extern fn tm_model_free(model: ?*tm_model) tm_status;
pub extern fn tm_model_argument_count(model: *const tm_model, method: Text, count: *usize) tm_status;
pub extern fn tm_model_argument(model: *const tm_model, method: Text, index: usize, argument: *tm_argument) tm_status;
pub extern fn tm_model_example_shape(model: *const tm_model, method: Text, index: usize, shape: [*]i64, dimensions: *i32) tm_status;
pub extern fn tm_model_forward(model: *const tm_model, arguments: Values, count: usize, result: *?*tm_value) tm_status;
pub extern fn tm_value_none(value: *?*tm_value) tm_status;
pub extern fn tm_value_bool(boolean: i32, value: *?*tm_value) tm_status;
pub extern fn tm_value_int(number: i64, value: *?*tm_value) tm_status;
pub extern fn tm_value_float(number: f64, value: *?*tm_value) tm_status;
pub extern fn tm_value_string(text: [*]const u8, size: usize, value: *?*tm_value) tm_status;
pub extern fn tm_value_list(items: Values, count: usize, value: *?*tm_value) tm_status;
pub extern fn tm_value_free(value: ?*tm_value) tm_status;
pub extern fn tm_value_kind(value: *const tm_value, kind: *tm_kind) tm_status;
pub extern fn tm_value_get_bool(value: *const tm_value, boolean: *i32) tm_status;
pub extern fn tm_value_get_int(value: *const tm_value, number: *i64) tm_status;
pub extern fn tm_value_get_float(value: *const tm_value, number: *f64) tm_status;
pub extern fn tm_value_get_string(value: *const tm_value, text: *[*c]const u8, size: *usize) tm_status;
pub extern fn tm_value_length(value: *const tm_value, length: *usize) tm_status;
pub extern fn tm_value_item(value: *const tm_value, index: usize, item: *?*tm_value) tm_status;
pub extern fn tm_value_key(dict: *const tm_value, index: usize, key: *?*tm_value) tm_status;
pub extern fn tm_tensor_copy(data: *const anyopaque, dtype: tm_dtype, shape: [*]const i64, dimensions: i32, strides: ?[*]const i64, value: *?*tm_value) tm_status;
pub extern fn tm_tensor_get_info(value: *const tm_value, info: *tm_tensor_info) tm_status;
pub extern fn tm_tensor_to_dtype(value: *const tm_value, dtype: tm_dtype, result: *?*tm_value) tm_status;
pub extern fn tm_tensor_read(value: *const tm_value, buffer: *anyopaque, size: usize) tm_status;
