package torchmodel;

import java.lang.ref.Cleaner;
import java.lang.ref.Reference;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.LongUnaryOperator;

/** Anything that a model takes or returns. Freed by close, or when it is garbage. */
public final class Value implements AutoCloseable {
    final long handle;
    private final Cleaner.Cleanable cleanable;

    Value(long handle) {
        this.handle = handle;
        this.cleanable = Native.CLEANER.register(this, () -> Native.freeValue(handle));
    }

    @Override
    public void close() {
        cleanable.clean();
    }

    /** A tensor with a copy of the numbers, in row-major order. */
    public static Value tensor(float[] data, long... shape) {
        return tensor(data, data.length, Native.FLOAT32, shape);
    }

    public static Value tensor(double[] data, long... shape) {
        return tensor(data, data.length, Native.FLOAT64, shape);
    }

    public static Value tensor(long[] data, long[] shape) {
        return tensor(data, data.length, Native.INT64, shape);
    }

    public static Value tensor(int[] data, long... shape) {
        return tensor(data, data.length, Native.INT32, shape);
    }

    /** A tensor of two dimensions from rows of one length. */
    public static Value tensor(float[][] rows) {
        int columns = rows.length == 0 ? 0 : rows[0].length;
        float[] data = new float[rows.length * columns];
        for (int i = 0; i < rows.length; ++i) {
            if (rows[i].length != columns) throw new IllegalArgumentException("the rows have different lengths");
            System.arraycopy(rows[i], 0, data, i * columns, columns);
        }
        return tensor(data, rows.length, columns);
    }

    private static Value tensor(Object data, int length, int dtype, long[] shape) {
        long elements = Arrays.stream(shape).reduce(1, Math::multiplyExact);
        if (elements != length || shape.length > Native.MOST_DIMENSIONS) {
            throw new IllegalArgumentException("the shape " + Arrays.toString(shape) + " does not have " + length + " elements");
        }
        return new Value(Native.tensor(data, dtype, shape));
    }

    public static Value of(boolean value) {
        return new Value(Native.bool(value));
    }

    public static Value of(long number) {
        return new Value(Native.number(number));
    }

    public static Value of(double number) {
        return new Value(Native.real(number));
    }

    public static Value of(String text) {
        return new Value(Native.string(Native.utf8(text)));
    }

    public static Value list(Value... items) {
        try {
            return new Value(Native.list(Arrays.stream(items).mapToLong(item -> item.handle).toArray()));
        } finally {
            Reference.reachabilityFence(items);
        }
    }

    public Kind kind() {
        return Kind.values()[Native.kind(handle)];
    }

    public boolean asBool() {
        return Native.asBool(handle);
    }

    public long asInt() {
        return Native.asInt(handle);
    }

    public double asFloat() {
        return Native.asFloat(handle);
    }

    public String asString() {
        return new String(Native.asString(handle), StandardCharsets.UTF_8);
    }

    /** The sizes of a tensor. */
    public long[] shape() {
        return Native.shape(handle);
    }

    /** The elements of a tensor in row-major order, converted. */
    public float[] toFloats() {
        try (Value converted = new Value(Native.converted(handle, Native.FLOAT32))) {
            float[] elements = new float[elements()];
            Native.read(converted.handle, elements, 4L * elements.length);
            return elements;
        }
    }

    public double[] toDoubles() {
        try (Value converted = new Value(Native.converted(handle, Native.FLOAT64))) {
            double[] elements = new double[elements()];
            Native.read(converted.handle, elements, 8L * elements.length);
            return elements;
        }
    }

    private int elements() {
        return Math.toIntExact(Arrays.stream(shape()).reduce(1, Math::multiplyExact));
    }

    /** The items of a list, a tuple or a dict. */
    public List<Value> items() {
        return each(index -> Native.item(handle, index));
    }

    /** The keys of a dict, in the order of its items. */
    public List<Value> keys() {
        return each(index -> Native.key(handle, index));
    }

    private List<Value> each(LongUnaryOperator read) {
        List<Value> values = new ArrayList<>();
        long length = Native.length(handle);
        for (long index = 0; index < length; ++index) values.add(new Value(read.applyAsLong(index)));
        return values;
    }
}
