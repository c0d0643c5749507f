//! TorchScript models and AOTInductor packages, through the C API in .torchlink/capi.
//!
//! Whoever gets a Model or a Value frees it by `deinit`. Threads may share a model. After an error, `message()` is what
//! libtorch said of it.
const std = @import("std");
const c = @import("c.zig");
const Allocator = std.mem.Allocator;

pub const Error = error{ Argument, File, Type, Model, OutOfMemory, Unsupported };

threadlocal var own_message: ?[:0]const u8 = null;

/// Of this thread's last failure, until the next one.
pub fn message() []const u8 {
    return own_message orelse std.mem.span(c.tm_last_error());
}

fn refused(why: [:0]const u8) Error {
    own_message = why;
    return error.Argument;
}

fn check(status: c.tm_status) Error!void {
    if (status == c.TM_OK) return;
    own_message = null;
    return switch (status) {
        c.TM_ERROR_ARGUMENT => error.Argument,
        c.TM_ERROR_FILE => error.File,
        c.TM_ERROR_TYPE => error.Type,
        c.TM_ERROR_MEMORY => error.OutOfMemory,
        c.TM_ERROR_UNSUPPORTED => error.Unsupported,
        else => error.Model,
    };
}

pub const Kind = enum(c.tm_kind) { none, bool, int, float, complex, string, tensor, list, tuple, dict, other, _ };

fn dtypeOf(comptime T: type) c.tm_dtype {
    return switch (T) {
        u8 => c.TM_UINT8,
        i8 => c.TM_INT8,
        i16 => c.TM_INT16,
        i32 => c.TM_INT32,
        i64 => c.TM_INT64,
        f16 => c.TM_FLOAT16,
        f32 => c.TM_FLOAT32,
        f64 => c.TM_FLOAT64,
        u16 => c.TM_UINT16,
        u32 => c.TM_UINT32,
        u64 => c.TM_UINT64,
        else => @compileError(@typeName(T) ++ " is no type of a tensor's elements"),
    };
}

/// Anything that a model takes or returns.
pub const Value = struct {
    handle: *c.tm_value,

    pub fn deinit(value: Value) void {
        _ = c.tm_value_free(value.handle);
    }

    fn made(status: c.tm_status, handle: ?*c.tm_value) Error!Value {
        try check(status);
        return .{ .handle = handle.? };
    }

    /// A tensor with a copy of the numbers, in row-major order.
    pub fn tensor(comptime T: type, data: []const T, sizes: []const i64) Error!Value {
        var count: usize = 1;
        for (sizes) |size| {
            const factor = std.math.cast(usize, size) orelse return refused("a size of the shape is negative");
            count = std.math.mul(usize, count, factor) catch return refused("the shape is too large");
        }
        if (count != data.len) return refused("the shape does not have as many elements as were given");
        var handle: ?*c.tm_value = null;
        const dimensions = std.math.cast(i32, sizes.len) orelse return refused("the shape has too many sizes");
        return made(c.tm_tensor_copy(data.ptr, dtypeOf(T), sizes.ptr, dimensions, null, &handle), handle);
    }

    /// A tensor of an array of arrays, such as a `[2][4]f32`.
    pub fn fromArray(array: anytype) Error!Value {
        const sizes = comptime sizesOf(@TypeOf(array));
        const T = comptime elementOf(@TypeOf(array));
        const flat: [*]const T = @ptrCast(&array);
        comptime var count: usize = 1;
        inline for (sizes) |size| count *= @intCast(size);
        return tensor(T, flat[0..count], &sizes);
    }

    /// A tensor of two dimensions from rows of one length.
    pub fn fromRows(allocator: Allocator, comptime T: type, rows: []const []const T) Error!Value {
        const columns = if (rows.len == 0) 0 else rows[0].len;
        for (rows) |row| if (row.len != columns) return refused("the rows have different lengths");
        const flat = std.mem.concat(allocator, T, rows) catch return outOfMemory();
        defer allocator.free(flat);
        return tensor(T, flat, &.{ @intCast(rows.len), @intCast(columns) });
    }

    pub fn none() Error!Value {
        var handle: ?*c.tm_value = null;
        return made(c.tm_value_none(&handle), handle);
    }

    pub fn boolean(yes: bool) Error!Value {
        var handle: ?*c.tm_value = null;
        return made(c.tm_value_bool(@intFromBool(yes), &handle), handle);
    }

    pub fn int(number: i64) Error!Value {
        var handle: ?*c.tm_value = null;
        return made(c.tm_value_int(number, &handle), handle);
    }

    pub fn float(number: f64) Error!Value {
        var handle: ?*c.tm_value = null;
        return made(c.tm_value_float(number, &handle), handle);
    }

    pub fn string(text: []const u8) Error!Value {
        var handle: ?*c.tm_value = null;
        return made(c.tm_value_string(text.ptr, text.len, &handle), handle);
    }

    pub fn list(allocator: Allocator, items: []const Value) Error!Value {
        const handles = try handlesOf(allocator, items);
        defer allocator.free(handles);
        var handle: ?*c.tm_value = null;
        return made(c.tm_value_list(handles.ptr, handles.len, &handle), handle);
    }

    pub fn kind(value: Value) Kind {
        var number: c.tm_kind = @backingInt(Kind.other);
        _ = c.tm_value_kind(value.handle, &number);
        return @fromBackingInt(@intCast(number));
    }

    pub fn asBool(value: Value) Error!bool {
        var number: i32 = 0;
        try check(c.tm_value_get_bool(value.handle, &number));
        return number != 0;
    }

    pub fn asInt(value: Value) Error!i64 {
        var number: i64 = 0;
        try check(c.tm_value_get_int(value.handle, &number));
        return number;
    }

    pub fn asFloat(value: Value) Error!f64 {
        var number: f64 = 0;
        try check(c.tm_value_get_float(value.handle, &number));
        return number;
    }

    /// UTF-8, which belongs to the value.
    pub fn asString(value: Value) Error![]const u8 {
        var text: [*c]const u8 = null;
        var size: usize = 0;
        try check(c.tm_value_get_string(value.handle, &text, &size));
        return text[0..size];
    }

    /// The sizes of a tensor, which belong to the value.
    pub fn shape(value: Value) Error![]const i64 {
        var info: c.tm_tensor_info = undefined;
        try check(c.tm_tensor_get_info(value.handle, &info));
        return if (info.dimensions == 0) &.{} else info.shape[0..@intCast(info.dimensions)];
    }

    /// The elements of a tensor in row-major order, converted to T; whoever calls frees them.
    pub fn elements(value: Value, allocator: Allocator, comptime T: type) Error![]T {
        var handle: ?*c.tm_value = null;
        const converted = try made(c.tm_tensor_to_dtype(value.handle, dtypeOf(T), &handle), handle);
        defer converted.deinit();
        var info: c.tm_tensor_info = undefined;
        try check(c.tm_tensor_get_info(converted.handle, &info));
        const numbers = allocator.alloc(T, @intCast(info.elements)) catch return outOfMemory();
        errdefer allocator.free(numbers);
        try check(c.tm_tensor_read(converted.handle, numbers.ptr, numbers.len * @sizeOf(T)));
        return numbers;
    }

    /// How many items a list, a tuple or a dict has, and each; of a dict in its order, and its keys.
    pub fn length(value: Value) Error!usize {
        var count: usize = 0;
        try check(c.tm_value_length(value.handle, &count));
        return count;
    }

    pub fn item(value: Value, index: usize) Error!Value {
        var handle: ?*c.tm_value = null;
        return made(c.tm_value_item(value.handle, index, &handle), handle);
    }

    pub fn key(value: Value, index: usize) Error!Value {
        var handle: ?*c.tm_value = null;
        return made(c.tm_value_key(value.handle, index, &handle), handle);
    }
};

/// A TorchScript model or an AOTInductor package.
pub const Model = struct {
    handle: *c.tm_model,

    /// On a device: "cpu", "cuda:0", …
    pub fn load(path: [:0]const u8, device: [:0]const u8) Error!Model {
        var handle: ?*c.tm_model = null;
        try check(c.tm_model_load(path, device, &handle));
        return .{ .handle = handle.? };
    }

    pub fn deinit(model: Model) void {
        _ = c.tm_model_free(model.handle);
    }

    /// Missing arguments take their defaults.
    pub fn forward(model: Model, allocator: Allocator, arguments: []const Value) Error!Value {
        const handles = try handlesOf(allocator, arguments);
        defer allocator.free(handles);
        var handle: ?*c.tm_value = null;
        return Value.made(c.tm_model_forward(model.handle, handles.ptr, handles.len, &handle), handle);
    }

    /// A shape for each argument of forward that has no default: a guess from the weights. All are freed by `freeShapes`.
    pub fn exampleShapes(model: Model, allocator: Allocator) Error![]const []const i64 {
        var count: usize = 0;
        try check(c.tm_model_argument_count(model.handle, "forward", &count));
        var shapes: std.ArrayList([]const i64) = .empty;
        errdefer {
            for (shapes.items) |shape| allocator.free(shape);
            shapes.deinit(allocator);
        }
        for (0..count) |index| {
            var argument: c.tm_argument = undefined;
            try check(c.tm_model_argument(model.handle, "forward", index, &argument));
            if (argument.has_default != 0) break;
            var sizes: [c.TM_MOST_DIMENSIONS]i64 = undefined;
            var dimensions: i32 = 0;
            try check(c.tm_model_example_shape(model.handle, "forward", index, &sizes, &dimensions));
            const shape = allocator.dupe(i64, sizes[0..@intCast(dimensions)]) catch return outOfMemory();
            shapes.append(allocator, shape) catch {
                allocator.free(shape);
                return outOfMemory();
            };
        }
        return shapes.toOwnedSlice(allocator) catch return outOfMemory();
    }

    pub fn freeShapes(allocator: Allocator, shapes: []const []const i64) void {
        for (shapes) |shape| allocator.free(shape);
        allocator.free(shapes);
    }
};

fn outOfMemory() Error {
    own_message = "out of memory";
    return error.OutOfMemory;
}

fn handlesOf(allocator: Allocator, values: []const Value) Error![]*const c.tm_value {
    const handles = allocator.alloc(*const c.tm_value, values.len) catch return outOfMemory();
    for (handles, values) |*handle, value| handle.* = value.handle;
    return handles;
}

fn elementOf(comptime Array: type) type {
    return switch (@typeInfo(Array)) {
        .array => |array| elementOf(array.child),
        else => Array,
    };
}

fn depthOf(comptime Array: type) usize {
    return switch (@typeInfo(Array)) {
        .array => |array| 1 + depthOf(array.child),
        else => 0,
    };
}

fn sizesOf(comptime Array: type) [depthOf(Array)]i64 {
    var sizes: [depthOf(Array)]i64 = undefined;
    var Part = Array;
    for (&sizes) |*size| {
        size.* = @typeInfo(Part).array.len;
        Part = @typeInfo(Part).array.child;
    }
    return sizes;
}
