package torchmodel;

import java.util.Arrays;
import java.util.List;
import java.util.stream.Collectors;

/** Runs a model with tensors of ones: Main [--repeat N] MODEL [SIZE...] */
public final class Main {
    private Main() {}

    private static void show(Value value) {
        switch (value.kind()) {
            case TENSOR:
                System.out.println(Arrays.stream(value.toDoubles()).mapToObj(number -> String.format(java.util.Locale.ROOT, "%.9g", number)).collect(Collectors.joining(" ")));
                break;
            case LIST:
            case TUPLE:
            case DICT:
                value.items().forEach(Main::show);
                break;
            case STRING:
                System.out.println(value.asString());
                break;
            case INT:
                System.out.println(value.asInt());
                break;
            case FLOAT:
                System.out.println(value.asFloat());
                break;
            case BOOL:
                System.out.println(value.asBool());
                break;
            default:
                System.out.println("none");
        }
    }

    private static void run(String path, long[] sizes, long repeat) {
        try (Model model = new Model(path)) {
            List<long[]> shapes = model.exampleShapes();
            for (long number = 1; number <= repeat; ++number) {
                Value[] inputs = new Value[shapes.size()];
                for (int i = 0; i < inputs.length; ++i) {
                    long[] shape = sizes.length > 0 ? sizes : shapes.get(i);
                    float[] ones = new float[Math.toIntExact(Arrays.stream(shape).reduce(1, Math::multiplyExact))];
                    Arrays.fill(ones, 1);
                    inputs[i] = Value.tensor(ones, shape);
                }
                try (Value output = model.forward(inputs)) {
                    if (number == repeat) show(output);
                }
                for (Value input : inputs) input.close();
            }
        }
    }

    /** Runs the program. */
    public static void main(String[] arguments) {
        long repeat = 1;
        int first = 0;
        long[] sizes;
        try {
            if (arguments.length > 1 && arguments[0].equals("--repeat")) {
                repeat = Integer.parseUnsignedInt(arguments[1]);
                first = 2;
            }
            sizes = Arrays.stream(arguments).skip(first + 1L).mapToLong(Integer::parseUnsignedInt).toArray();
        } catch (NumberFormatException error) {
            first = arguments.length;
            sizes = new long[0];
        }
        if (first >= arguments.length) {
            System.err.println("usage: Main [--repeat N] MODEL [SIZE...]");
            System.exit(2);
        }
        try {
            run(arguments[first], sizes, repeat);
        } catch (TorchException | ArithmeticException error) {
            System.err.println("Main: " + error.getMessage());
            System.exit(1);
        }
    }
}
