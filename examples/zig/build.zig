const std = @import("std");

pub fn build(b: *std.Build) void {
    const target = b.standardTargetOptions(.{});
    const optimize = b.standardOptimizeOption(.{});
    const capi = b.path(".torchlink/capi"); // `torchlink capi .torchlink/capi` builds it

    const torchmodel = b.createModule(.{
        .root_source_file = b.path("src/torchmodel.zig"),
        .target = target,
        .optimize = optimize,
        .link_libc = true,
    });
    torchmodel.addLibraryPath(capi);
    torchmodel.linkSystemLibrary("torchmodel", .{ .use_pkg_config = .no });

    const app = b.addExecutable(.{
        .name = "app",
        .root_module = b.createModule(.{
            .root_source_file = b.path("src/main.zig"),
            .target = target,
            .optimize = optimize,
            .imports = &.{.{ .name = "torchmodel", .module = torchmodel }},
        }),
    });
    // The program finds the library relative to itself: it is installed as zig-out/bin/app.
    app.each_lib_rpath = false;
    app.root_module.addRPathSpecial("$ORIGIN/../../.torchlink/capi");
    b.installArtifact(app);

    const tests = b.addTest(.{
        .root_module = b.createModule(.{
            .root_source_file = b.path("src/tests.zig"),
            .target = target,
            .optimize = optimize,
            .imports = &.{.{ .name = "torchmodel", .module = torchmodel }},
        }),
    });
    tests.root_module.addRPath(capi);
    const run_tests = b.addRunArtifact(tests);
    run_tests.setCwd(b.path("."));
    b.step("test", "Run the tests").dependOn(&run_tests.step);
}
