import java.util.Arrays;
import java.util.stream.IntStream;
import torchmodel.Kind;
import torchmodel.Model;
import torchmodel.TorchException;
import torchmodel.Value;

public final class Tests {
    private Tests() {}

    private static void check(boolean right, String what) {
        if (!right) throw new AssertionError(what);
    }

    private static void fails(Class<? extends RuntimeException> type, String text, Runnable action) {
        try {
            action.run();
        } catch (RuntimeException error) {
            check(type.isInstance(error) && error.getMessage().contains(text), error.toString());
            return;
        }
        throw new AssertionError("no error with " + text);
    }

    public static void main(String[] arguments) {
        try (Model model = new Model("model.pt")) {
            Value output = model.forward(Value.tensor(new float[][] {{1, 1, 1, 1}, {0, 0, 0, 0}}));
            check(output.kind() == Kind.TENSOR, "the kind");
            check(Arrays.equals(output.shape(), new long[] {2, 2}), "the shape");
            check(output.toFloats()[0] == 2.5f && output.toDoubles()[1] == -0.75, "the numbers");
            fails(TorchException.class, "shapes cannot be multiplied", () -> model.forward(Value.tensor(new float[3], 1, 3)));
            fails(IllegalArgumentException.class, "3 elements", () -> Value.tensor(new float[3], 2, 2));
            IntStream.range(0, 16).parallel().forEach(i -> {
                try (Value input = Value.tensor(new float[] {1, 1, 1, 1}, 1, 4); Value result = model.forward(input)) {
                    check(Arrays.equals(result.toDoubles(), new double[] {2.5, -0.75}), "a thread");
                }
            });
        }
        fails(TorchException.class, "missing.pt", () -> new Model("missing.pt").close());
        check(Value.of("a\0ü").asString().equals("a\0ü"), "a string");
        check(Value.list(Value.of(7), Value.of(true)).items().get(0).asInt() == 7, "a list");
        System.out.println("ok");
    }
}
