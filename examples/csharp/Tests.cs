using System;
using System.Linq;
using System.Threading.Tasks;

static class Tests {
    static void Check(bool right, string what) {
        if (!right) throw new Exception("failed: " + what);
    }

    static void Fails<T>(string text, Action action) where T : Exception {
        try {
            action();
        } catch (T error) {
            Check(error.Message.Contains(text), error.Message);
            return;
        }
        throw new Exception("failed: no error with " + text);
    }

    static int Main() {
        using (var model = new Model("model.pt")) {
            var output = model.Forward(Value.Tensor(new[,] { { 1f, 1, 1, 1 }, { 0, 0, 0, 0 } }));
            Check(output.Kind == Kind.Tensor, "the kind");
            Check(output.Shape.SequenceEqual(new[] { 2L, 2 }), "the shape");
            Check(output.Elements<float>().Take(2).SequenceEqual(new[] { 2.5f, -0.75f }), "the numbers");
            Fails<TorchException>("shapes cannot be multiplied", () => model.Forward(Value.Tensor(new[] { 1f, 1, 1 }, 1, 3)));
            Fails<ArgumentException>("3 elements", () => Value.Tensor(new[] { 1f, 1, 1 }, 2, 2));
            Parallel.For(0, 16, _ => {
                using (var input = Value.Tensor(new[] { 1f, 1, 1, 1 }, 1, 4))
                using (var result = model.Forward(input)) {
                    Check(result.Elements<double>().SequenceEqual(new[] { 2.5, -0.75 }), "a thread");
                }
            });
        }
        Fails<TorchException>("missing.pt", () => new Model("missing.pt"));
        Check(Value.Of("a\0ü").AsString() == "a\0ü", "a string");
        Check(Value.List(Value.Of(7L), Value.Of(true)).Items()[0].AsInt() == 7, "a list");
        Console.WriteLine("ok");
        return 0;
    }
}
