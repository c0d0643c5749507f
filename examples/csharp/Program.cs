// Runs a model with tensors of ones: app [--repeat N] MODEL [SIZE...]
// The sizes are those of each input; without them they follow from the model.
using System;
using System.Globalization;
using System.Linq;

static class Program {
    static void Show(Value value) {
        switch (value.Kind) {
            case Kind.Tensor:
                Console.WriteLine(string.Join(" ", value.Elements<double>().Select(number => number.ToString("G9", CultureInfo.InvariantCulture))));
                break;
            case Kind.List:
            case Kind.Tuple:
            case Kind.Dict:
                foreach (var item in value.Items()) Show(item);
                break;
            case Kind.String: Console.WriteLine(value.AsString()); break;
            case Kind.Int: Console.WriteLine(value.AsInt()); break;
            case Kind.Float: Console.WriteLine(value.AsFloat().ToString("G9", CultureInfo.InvariantCulture)); break;
            case Kind.Bool: Console.WriteLine(value.AsBool() ? "true" : "false"); break;
            default: Console.WriteLine("none"); break;
        }
    }

    static void Run(string path, long[] sizes, long repeat) {
        using (var model = new Model(path)) {
            var shapes = model.ExampleShapes().Select(shape => sizes.Length > 0 ? sizes : shape).ToArray();
            for (long number = 1; number <= repeat; ++number) {
                var inputs = shapes.Select(shape => Value.Tensor(Enumerable.Repeat(1f, (int)shape.Aggregate(1L, (product, size) => product * size)).ToArray(), shape)).ToArray();
                using (var output = model.Forward(inputs)) {
                    if (number == repeat) Show(output);
                }
                foreach (var input in inputs) input.Dispose();
            }
        }
    }

    static bool Numbers(string[] texts, out long[] numbers) {
        long number = 0;
        numbers = texts.Select(text => long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out number) && number < 1 << 20 ? number : -1).ToArray();
        return numbers.All(each => each >= 0);
    }

    static int Main(string[] arguments) {
        long[] repeat = { 1 }, sizes;
        var valid = true;
        if (arguments.Length > 1 && arguments[0] == "--repeat") {
            valid = Numbers(new[] { arguments[1] }, out repeat);
            arguments = arguments.Skip(2).ToArray();
        }
        if (!Numbers(arguments.Skip(1).ToArray(), out sizes) || !valid || arguments.Length == 0) {
            Console.Error.WriteLine("usage: app [--repeat N] MODEL [SIZE...]");
            return 2;
        }
        try {
            Run(arguments[0], sizes, repeat[0]);
        } catch (TorchException error) {
            Console.Error.WriteLine("app: " + error.Message);
            return 1;
        }
        return 0;
    }
}
