package torchmodel;

import java.lang.ref.Cleaner;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.Paths;

/** The functions of native/torchmodel_jni.c, which lies beside the classes. */
final class Native {
    static final Cleaner CLEANER = Cleaner.create();
    static final int FLOAT32 = 6, FLOAT64 = 7, INT32 = 3, INT64 = 4;
    static final int MOST_DIMENSIONS = 64;

    static {
        try {
            Path classes = Paths.get(Native.class.getProtectionDomain().getCodeSource().getLocation().toURI());
            System.load(classes.resolve("libtorchmodel_jni.so").toAbsolutePath().toString());
        } catch (URISyntaxException error) {
            throw new ExceptionInInitializerError(error);
        }
    }

    private Native() {}

    static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static native long load(byte[] path, byte[] device);
    static native void freeModel(long model);
    static native void freeValue(long value);
    static native long forward(long model, long[] arguments);
    static native long[] exampleShape(long model, int index);
    static native long tensor(Object data, int dtype, long[] shape);
    static native long string(byte[] text);
    static native long number(long number);
    static native long real(double number);
    static native long bool(boolean value);
    static native long list(long[] items);
    static native int kind(long value);
    static native boolean asBool(long value);
    static native long asInt(long value);
    static native double asFloat(long value);
    static native byte[] asString(long value);
    static native long length(long value);
    static native long item(long value, long index);
    static native long key(long dict, long index);
    static native long[] shape(long value);
    static native long converted(long value, int dtype);
    static native void read(long value, Object into, long bytes);
}
