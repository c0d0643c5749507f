// TorchScript models and AOTInductor packages in C#, through the C API in .torchlink/capi.
//
// Failures are a TorchException with libtorch's message. Models and values are freed by Dispose, or when they are garbage.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text;

public class TorchException : Exception {
    public readonly int Status;
    public TorchException(int status, string message) : base(message) { Status = status; }
}

public enum Kind { None, Bool, Int, Float, Complex, String, Tensor, List, Tuple, Dict, Other }

static class Native {
    const string Library = "torchmodel";

    [StructLayout(LayoutKind.Sequential)]
    public struct TensorInfo {
        public IntPtr Data, Shape, Strides;
        public long Elements;
        public int Dimensions, Dtype, ElementSize, IsContiguous, IsCpu;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Argument {
        public IntPtr Name, Type, DefaultText;
        public int HasDefault, KeywordOnly;
    }

    [DllImport(Library)] public static extern IntPtr tm_last_error();
    [DllImport(Library)] public static extern int tm_model_load(byte[] path, byte[] device, out IntPtr model);
    [DllImport(Library)] public static extern int tm_model_free(IntPtr model);
    [DllImport(Library)] public static extern int tm_model_argument_count(IntPtr model, byte[] method, out UIntPtr count);
    [DllImport(Library)] public static extern int tm_model_argument(IntPtr model, byte[] method, UIntPtr index, out Argument argument);
    [DllImport(Library)] public static extern int tm_model_example_shape(IntPtr model, byte[] method, UIntPtr index, long[] shape, out int dimensions);
    [DllImport(Library)] public static extern int tm_model_forward(IntPtr model, IntPtr[] arguments, UIntPtr count, out IntPtr result);
    [DllImport(Library)] public static extern int tm_value_none(out IntPtr value);
    [DllImport(Library)] public static extern int tm_value_bool(int boolean, out IntPtr value);
    [DllImport(Library)] public static extern int tm_value_int(long number, out IntPtr value);
    [DllImport(Library)] public static extern int tm_value_float(double number, out IntPtr value);
    [DllImport(Library)] public static extern int tm_value_string(byte[] text, UIntPtr size, out IntPtr value);
    [DllImport(Library)] public static extern int tm_value_list(IntPtr[] items, UIntPtr count, out IntPtr value);
    [DllImport(Library)] public static extern int tm_value_free(IntPtr value);
    [DllImport(Library)] public static extern int tm_value_kind(IntPtr value, out int kind);
    [DllImport(Library)] public static extern int tm_value_get_bool(IntPtr value, out int boolean);
    [DllImport(Library)] public static extern int tm_value_get_int(IntPtr value, out long number);
    [DllImport(Library)] public static extern int tm_value_get_float(IntPtr value, out double number);
    [DllImport(Library)] public static extern int tm_value_get_string(IntPtr value, out IntPtr text, out UIntPtr size);
    [DllImport(Library)] public static extern int tm_value_length(IntPtr value, out UIntPtr length);
    [DllImport(Library)] public static extern int tm_value_item(IntPtr value, UIntPtr index, out IntPtr item);
    [DllImport(Library)] public static extern int tm_value_key(IntPtr dict, UIntPtr index, out IntPtr key);
    [DllImport(Library)] public static extern int tm_tensor_copy(IntPtr data, int dtype, long[] shape, int dimensions, IntPtr strides, out IntPtr value);
    [DllImport(Library)] public static extern int tm_tensor_get_info(IntPtr value, out TensorInfo info);
    [DllImport(Library)] public static extern int tm_tensor_to_dtype(IntPtr value, int dtype, out IntPtr result);
    [DllImport(Library)] public static extern int tm_tensor_read(IntPtr value, IntPtr buffer, UIntPtr size);

    public static void Check(int status) {
        if (status != 0) throw new TorchException(status, Text(tm_last_error()));
    }

    public static byte[] Utf8(string text) {
        return Encoding.UTF8.GetBytes(text + "\0");
    }

    public static string Text(IntPtr pointer) {
        int length = 0;
        while (Marshal.ReadByte(pointer, length) != 0) ++length;
        return Text(pointer, length);
    }

    public static string Text(IntPtr pointer, int length) {
        var bytes = new byte[length];
        Marshal.Copy(pointer, bytes, 0, length);
        return Encoding.UTF8.GetString(bytes);
    }
}

// Anything that a model takes or returns.
public sealed class Value : IDisposable {
    static readonly Dictionary<Type, int> Dtypes = new Dictionary<Type, int> {
        { typeof(byte), 0 }, { typeof(sbyte), 1 }, { typeof(short), 2 }, { typeof(int), 3 }, { typeof(long), 4 },
        { typeof(float), 6 }, { typeof(double), 7 }, { typeof(ushort), 27 }, { typeof(uint), 28 }, { typeof(ulong), 29 },
    };

    internal delegate int Write(out IntPtr value);

    internal IntPtr Handle;

    internal Value(Write write) {
        Native.Check(write(out Handle));
    }

    ~Value() { Free(); }

    public void Dispose() {
        Free();
        GC.SuppressFinalize(this);
    }

    void Free() {
        if (Handle != IntPtr.Zero) Native.tm_value_free(Handle);
        Handle = IntPtr.Zero;
    }

    // A tensor with a copy of the numbers, in row-major order.
    public static Value Tensor<T>(T[] data, params long[] shape) where T : struct {
        if (shape.Aggregate(1L, (product, size) => product * size) != data.Length) {
            throw new ArgumentException("the shape [" + string.Join(", ", shape) + "] does not have " + data.Length + " elements");
        }
        return Pinned(data, address => new Value((out IntPtr value) => Native.tm_tensor_copy(address, Dtypes[typeof(T)], shape, shape.Length, IntPtr.Zero, out value)));
    }

    // A tensor of two dimensions; C#'s own arrays of them have rows of one length.
    public static Value Tensor<T>(T[,] rows) where T : struct {
        return Tensor(rows.Cast<T>().ToArray(), rows.GetLength(0), rows.GetLength(1));
    }

    public static Value None() { return new Value((out IntPtr value) => Native.tm_value_none(out value)); }
    public static Value Of(bool boolean) { return new Value((out IntPtr value) => Native.tm_value_bool(boolean ? 1 : 0, out value)); }
    public static Value Of(long number) { return new Value((out IntPtr value) => Native.tm_value_int(number, out value)); }
    public static Value Of(double number) { return new Value((out IntPtr value) => Native.tm_value_float(number, out value)); }

    public static Value Of(string text) {
        var bytes = Encoding.UTF8.GetBytes(text);
        return new Value((out IntPtr value) => Native.tm_value_string(bytes, (UIntPtr)bytes.Length, out value));
    }

    public static Value List(params Value[] items) {
        var handles = items.Select(item => item.Handle).ToArray();
        var list = new Value((out IntPtr value) => Native.tm_value_list(handles, (UIntPtr)handles.Length, out value));
        GC.KeepAlive(items);
        return list;
    }

    public Kind Kind {
        get {
            int kind;
            Native.Check(Native.tm_value_kind(Handle, out kind));
            return (Kind)kind;
        }
    }

    public bool AsBool() {
        int boolean;
        Native.Check(Native.tm_value_get_bool(Handle, out boolean));
        return boolean != 0;
    }

    public long AsInt() {
        long number;
        Native.Check(Native.tm_value_get_int(Handle, out number));
        return number;
    }

    public double AsFloat() {
        double number;
        Native.Check(Native.tm_value_get_float(Handle, out number));
        return number;
    }

    public string AsString() {
        IntPtr text;
        UIntPtr size;
        Native.Check(Native.tm_value_get_string(Handle, out text, out size));
        return Native.Text(text, (int)size);
    }

    // The sizes of a tensor.
    public long[] Shape {
        get {
            var info = Info();
            var shape = new long[info.Dimensions];
            if (shape.Length > 0) Marshal.Copy(info.Shape, shape, 0, shape.Length);
            return shape;
        }
    }

    // The elements of a tensor in row-major order, converted to T.
    public T[] Elements<T>() where T : struct {
        using (var converted = new Value((out IntPtr value) => Native.tm_tensor_to_dtype(Handle, Dtypes[typeof(T)], out value))) {
            var info = converted.Info();
            var elements = new T[info.Elements];
            var size = (UIntPtr)(ulong)(info.Elements * info.ElementSize);
            Pinned(elements, address => { Native.Check(Native.tm_tensor_read(converted.Handle, address, size)); return 0; });
            return elements;
        }
    }

    // The items of a list, a tuple or a dict; the keys of a dict in the same order.
    public Value[] Items() {
        return Each((UIntPtr index, out IntPtr item) => Native.tm_value_item(Handle, index, out item));
    }

    public Value[] Keys() {
        return Each((UIntPtr index, out IntPtr key) => Native.tm_value_key(Handle, index, out key));
    }

    delegate int Read(UIntPtr index, out IntPtr value);

    Value[] Each(Read read) {
        UIntPtr length;
        Native.Check(Native.tm_value_length(Handle, out length));
        return Enumerable.Range(0, (int)length).Select(index => new Value((out IntPtr value) => read((UIntPtr)index, out value))).ToArray();
    }

    Native.TensorInfo Info() {
        Native.TensorInfo info;
        Native.Check(Native.tm_tensor_get_info(Handle, out info));
        return info;
    }

    static TResult Pinned<T, TResult>(T[] data, Func<IntPtr, TResult> use) {
        var pin = GCHandle.Alloc(data, GCHandleType.Pinned);
        try {
            return use(pin.AddrOfPinnedObject());
        } finally {
            pin.Free();
        }
    }
}

// A TorchScript model or an AOTInductor package. Threads may share it.
public sealed class Model : IDisposable {
    static readonly byte[] ForwardName = Native.Utf8("forward");
    IntPtr handle;

    public Model(string path, string device = "cpu") {
        Native.Check(Native.tm_model_load(Native.Utf8(path), Native.Utf8(device), out handle));
    }

    ~Model() { Free(); }

    public void Dispose() {
        Free();
        GC.SuppressFinalize(this);
    }

    void Free() {
        if (handle != IntPtr.Zero) Native.tm_model_free(handle);
        handle = IntPtr.Zero;
    }

    // Calls forward; missing arguments take their defaults.
    public Value Forward(params Value[] arguments) {
        var handles = arguments.Select(argument => argument.Handle).ToArray();
        var result = new Value((out IntPtr value) => Native.tm_model_forward(handle, handles, (UIntPtr)handles.Length, out value));
        GC.KeepAlive(arguments);
        GC.KeepAlive(this);
        return result;
    }

    // A shape for each argument of forward that has no default: a guess from the weights.
    public IEnumerable<long[]> ExampleShapes() {
        UIntPtr count;
        Native.Check(Native.tm_model_argument_count(handle, ForwardName, out count));
        var shapes = new List<long[]>();
        for (ulong index = 0; index < (ulong)count; ++index) {
            Native.Argument argument;
            Native.Check(Native.tm_model_argument(handle, ForwardName, (UIntPtr)index, out argument));
            if (argument.HasDefault != 0) break;
            var shape = new long[64];
            int dimensions;
            Native.Check(Native.tm_model_example_shape(handle, ForwardName, (UIntPtr)index, shape, out dimensions));
            shapes.Add(shape.Take(dimensions).ToArray());
        }
        return shapes;
    }
}
