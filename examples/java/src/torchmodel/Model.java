package torchmodel;

import java.lang.ref.Cleaner;
import java.lang.ref.Reference;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** A TorchScript model or an AOTInductor package. Threads may share it. Freed by close, or when it is garbage. */
public final class Model implements AutoCloseable {
    private final long handle;
    private final Cleaner.Cleanable cleanable;

    public Model(String path) {
        this(path, "cpu");
    }

    /** On a device: "cpu", "cuda:0", … */
    public Model(String path, String device) {
        long loaded = Native.load(Native.utf8(path), Native.utf8(device));
        handle = loaded;
        cleanable = Native.CLEANER.register(this, () -> Native.freeModel(loaded));
    }

    @Override
    public void close() {
        cleanable.clean();
    }

    /** Calls forward; missing arguments take their defaults. */
    public Value forward(Value... arguments) {
        try {
            return new Value(Native.forward(handle, Arrays.stream(arguments).mapToLong(argument -> argument.handle).toArray()));
        } finally {
            Reference.reachabilityFence(arguments);
            Reference.reachabilityFence(this);
        }
    }

    /** A shape for each argument of forward that has no default: a guess from the weights. */
    public List<long[]> exampleShapes() {
        List<long[]> shapes = new ArrayList<>();
        for (long[] shape; (shape = Native.exampleShape(handle, shapes.size())) != null;) shapes.add(shape);
        return shapes;
    }
}
