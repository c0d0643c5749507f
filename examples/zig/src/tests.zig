const std = @import("std");
const torchmodel = @import("torchmodel");
const Model = torchmodel.Model;
const Value = torchmodel.Value;
const allocator = std.testing.allocator;
const expect = std.testing.expect;

fn said(text: []const u8) bool {
    return std.mem.indexOf(u8, torchmodel.message(), text) != null;
}

test "forward returns numbers" {
    const model = try Model.load("model.pt", "cpu");
    defer model.deinit();
    const input = try Value.fromArray([2][4]f32{ .{ 1, 1, 1, 1 }, .{ 0, 0, 0, 0 } });
    defer input.deinit();
    const output = try model.forward(allocator, &.{input});
    defer output.deinit();
    try expect(output.kind() == .tensor);
    try std.testing.expectEqualSlices(i64, &.{ 2, 2 }, try output.shape());
    const numbers = try output.elements(allocator, f32);
    defer allocator.free(numbers);
    try std.testing.expectEqualSlices(f32, &.{ 2.5, -0.75 }, numbers[0..2]);
}

test "failures are errors" {
    const model = try Model.load("model.pt", "cpu");
    defer model.deinit();
    const wrong = try Value.tensor(f32, &.{ 1, 1, 1 }, &.{ 1, 3 });
    defer wrong.deinit();
    try std.testing.expectError(error.Model, model.forward(allocator, &.{wrong}));
    try expect(said("shapes cannot be multiplied"));
    try std.testing.expectError(error.Argument, Value.tensor(f32, &.{ 1, 1, 1 }, &.{ 2, 2 }));
    try std.testing.expectError(error.Argument, Value.fromRows(allocator, f32, &.{ &.{1}, &.{ 1, 2 } }));
    try expect(said("different lengths"));
    try std.testing.expectError(error.File, Model.load("missing.pt", "cpu"));
    try expect(said("missing.pt"));
}

test "values keep what they are given" {
    const number = try Value.int(7);
    defer number.deinit();
    const text = try Value.string("a\x00ü");
    defer text.deinit();
    const list = try Value.list(allocator, &.{ number, number });
    defer list.deinit();
    const second = try list.item(1);
    defer second.deinit();
    try expect(try second.asInt() == 7);
    try expect(try list.length() == 2);
    try std.testing.expectEqualStrings("a\x00ü", try text.asString());
    const rows = try Value.fromRows(allocator, i64, &.{ &.{ 1, 2 }, &.{ 3, 4 } });
    defer rows.deinit();
    const numbers = try rows.elements(allocator, i64);
    defer allocator.free(numbers);
    try std.testing.expectEqualSlices(i64, &.{ 1, 2, 3, 4 }, numbers);
}

fn callOften(model: Model, failed: *std.atomic.Value(bool)) void {
    for (0..50) |_| {
        callOnce(model) catch failed.store(true, .seq_cst);
    }
}

fn callOnce(model: Model) !void {
    const input = try Value.fromArray([1][4]f32{.{ 1, 1, 1, 1 }});
    defer input.deinit();
    const output = try model.forward(std.heap.c_allocator, &.{input});
    defer output.deinit();
    const numbers = try output.elements(std.heap.c_allocator, f64);
    defer std.heap.c_allocator.free(numbers);
    try std.testing.expectEqualSlices(f64, &.{ 2.5, -0.75 }, numbers);
}

test "threads share a model" {
    const model = try Model.load("model.pt", "cpu");
    defer model.deinit();
    var failed: std.atomic.Value(bool) = .init(false);
    var threads: [4]std.Thread = undefined;
    for (&threads) |*thread| thread.* = try .spawn(.{}, callOften, .{ model, &failed });
    for (threads) |thread| thread.join();
    try expect(!failed.load(.seq_cst));
}
