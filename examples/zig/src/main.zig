//! Runs a model with tensors of ones: app [--repeat N] MODEL [SIZE...]
//! The sizes are those of each input; without them they follow from the model.
const std = @import("std");
const torchmodel = @import("torchmodel");
const Model = torchmodel.Model;
const Value = torchmodel.Value;

fn print(out: *std.Io.Writer, allocator: std.mem.Allocator, value: Value) !void {
    switch (value.kind()) {
        .tensor => {
            const numbers = try value.elements(allocator, f64);
            defer allocator.free(numbers);
            for (numbers, 0..) |number, i| try out.print("{s}{d}", .{ if (i == 0) "" else " ", number });
            try out.print("\n", .{});
        },
        .list, .tuple, .dict => for (0..try value.length()) |index| {
            const item = try value.item(index);
            defer item.deinit();
            try print(out, allocator, item);
        },
        .string => try out.print("{s}\n", .{try value.asString()}),
        .int => try out.print("{d}\n", .{try value.asInt()}),
        .float => try out.print("{d}\n", .{try value.asFloat()}),
        .bool => try out.print("{}\n", .{try value.asBool()}),
        else => |kind| try out.print("{s}\n", .{@tagName(kind)}),
    }
}

/// A tensor of ones.
fn ones(allocator: std.mem.Allocator, shape: []const i64) !Value {
    var count: usize = 1;
    for (shape) |size| count = std.math.mul(usize, count, @intCast(size)) catch return error.OutOfMemory;
    const numbers = try allocator.alloc(f32, count);
    defer allocator.free(numbers);
    @memset(numbers, 1);
    return Value.tensor(f32, numbers, shape);
}

/// One call; its output is printed if `out` is given.
fn call(allocator: std.mem.Allocator, model: Model, shapes: []const []const i64, out: ?*std.Io.Writer) !void {
    var inputs: std.ArrayList(Value) = .empty;
    defer {
        for (inputs.items) |input| input.deinit();
        inputs.deinit(allocator);
    }
    for (shapes) |shape| {
        const input = try ones(allocator, shape);
        inputs.append(allocator, input) catch |err| {
            input.deinit();
            return err;
        };
    }
    const output = try model.forward(allocator, inputs.items);
    defer output.deinit();
    if (out) |writer| try print(writer, allocator, output);
}

fn run(out: *std.Io.Writer, allocator: std.mem.Allocator, path: [:0]const u8, sizes: []const i64, repeat: u64) !void {
    const model = try Model.load(path, "cpu");
    defer model.deinit();
    const guesses = try model.exampleShapes(allocator);
    defer Model.freeShapes(allocator, guesses);
    const shapes = try allocator.dupe([]const i64, guesses);
    defer allocator.free(shapes);
    if (sizes.len > 0) for (shapes) |*shape| {
        shape.* = sizes;
    };
    for (1..repeat + 1) |number| try call(allocator, model, shapes, if (number == repeat) out else null);
}

pub fn main(init: std.process.Init) !u8 {
    var arguments = (try init.minimal.args.toSlice(init.arena.allocator()))[1..];
    var repeat: u64 = 1;
    if (arguments.len > 1 and std.mem.eql(u8, arguments[0], "--repeat")) {
        repeat = std.fmt.parseUnsigned(u20, arguments[1], 10) catch return usage();
        arguments = arguments[2..];
    }
    if (arguments.len == 0) return usage();
    var sizes: std.ArrayList(i64) = .empty;
    defer sizes.deinit(init.gpa);
    for (arguments[1..]) |text| {
        try sizes.append(init.gpa, std.fmt.parseUnsigned(u20, text, 10) catch return usage());
    }

    var buffer: [4096]u8 = undefined;
    var stdout: std.Io.File.Writer = .init(.stdout(), init.io, &buffer);
    run(&stdout.interface, init.gpa, arguments[0], sizes.items, repeat) catch |err| {
        const message = torchmodel.message();
        std.debug.print("app: {s}\n", .{if (message.len > 0) message else @errorName(err)});
        return 1;
    };
    try stdout.interface.flush();
    return 0;
}

fn usage() u8 {
    std.debug.print("usage: app [--repeat N] MODEL [SIZE...]\n", .{});
    return 2;
}
