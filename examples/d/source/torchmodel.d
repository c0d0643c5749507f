/// TorchScript models and AOTInductor packages in D, through the C API in .torchlink/capi.
///
/// Failures are a TorchException with libtorch's message. Models and values are counted references: what they refer to
/// is freed with the last of them.
module torchmodel;

import std.algorithm : map;
import std.array : array;
import std.exception : enforce;
import std.string : fromStringz, toStringz;
import std.typecons : RefCounted, RefCountedAutoInitialize;

private extern (C) nothrow @nogc
{
    struct tm_model;
    struct tm_value;
    struct TensorInfo
    {
        void* data;
        const(long)* shape, strides;
        long elements;
        int dimensions, dtype, elementSize, isContiguous, isCpu;
    }

    struct Argument
    {
        const(char)* name, type, defaultText;
        int hasDefault, keywordOnly;
    }

    const(char)* tm_last_error();
    int tm_model_load(const char* path, const char* device, tm_model** model);
    int tm_model_free(tm_model* model);
    int tm_model_argument_count(const tm_model* model, const char* method, size_t* count);
    int tm_model_argument(const tm_model* model, const char* method, size_t index, Argument* argument);
    int tm_model_example_shape(const tm_model* model, const char* method, size_t index, long* shape, int* dimensions);
    int tm_model_forward(const tm_model* model, const(tm_value*)* arguments, size_t count, tm_value** result);
    int tm_value_none(tm_value** value);
    int tm_value_bool(int boolean, tm_value** value);
    int tm_value_int(long number, tm_value** value);
    int tm_value_float(double number, tm_value** value);
    int tm_value_string(const char* text, size_t size, tm_value** value);
    int tm_value_list(const(tm_value*)* items, size_t count, tm_value** value);
    int tm_value_free(tm_value* value);
    int tm_value_kind(const tm_value* value, int* kind);
    int tm_value_get_bool(const tm_value* value, int* boolean);
    int tm_value_get_int(const tm_value* value, long* number);
    int tm_value_get_float(const tm_value* value, double* number);
    int tm_value_get_string(const tm_value* value, const(char)** text, size_t* size);
    int tm_value_length(const tm_value* value, size_t* length);
    int tm_value_item(const tm_value* value, size_t index, tm_value** item);
    int tm_value_key(const tm_value* dict, size_t index, tm_value** key);
    int tm_tensor_copy(const void* data, int dtype, const long* shape, int dimensions, const long* strides, tm_value** value);
    int tm_tensor_get_info(const tm_value* value, TensorInfo* info);
    int tm_tensor_to_dtype(const tm_value* value, int dtype, tm_value** result);
    int tm_tensor_read(const tm_value* value, void* buffer, size_t size);
}

/// What libtorch or the C API said of a failure.
class TorchException : Exception
{
    int status;

    this(int status, string message)
    {
        super(message);
        this.status = status;
    }
}

private void check(int status)
{
    if (status != 0)
        throw new TorchException(status, tm_last_error().fromStringz.idup);
}

enum Kind
{
    none,
    boolean,
    integer,
    floating,
    complex,
    text,
    tensor,
    list,
    tuple,
    dict,
    other
}

private template dtypeOf(T)
{
    static if (is(T == ubyte))
        enum dtypeOf = 0;
    else static if (is(T == byte))
        enum dtypeOf = 1;
    else static if (is(T == short))
        enum dtypeOf = 2;
    else static if (is(T == int))
        enum dtypeOf = 3;
    else static if (is(T == long))
        enum dtypeOf = 4;
    else static if (is(T == float))
        enum dtypeOf = 6;
    else static if (is(T == double))
        enum dtypeOf = 7;
    else
        static assert(false, T.stringof ~ " is no type of a tensor's elements");
}

/// Anything that a model takes or returns.
struct Value
{
    private static struct Owner
    {
        tm_value* handle;
        @disable this(this);
        ~this()
        {
            if (handle !is null)
                tm_value_free(handle);
        }
    }

    private RefCounted!(Owner, RefCountedAutoInitialize.no) owner;

    private static Value made(scope int delegate(tm_value**) write)
    {
        tm_value* handle;
        check(write(&handle));
        Value value;
        value.owner.refCountedStore.ensureInitialized();
        value.owner.refCountedPayload.handle = handle;
        return value;
    }

    private inout(tm_value)* handle() inout
    {
        return owner.refCountedPayload.handle;
    }

    /// A tensor with a copy of the numbers, in row-major order.
    static Value tensor(T)(const T[] data, const long[] shape)
    {
        long elements = 1;
        foreach (size; shape)
            elements *= size;
        enforce(elements == data.length, "the shape does not have the elements that are given");
        return made(value => tm_tensor_copy(data.ptr, dtypeOf!T, shape.ptr, cast(int) shape.length, null, value));
    }

    /// A tensor of two dimensions from rows of one length.
    static Value tensor(T)(const T[][] rows)
    {
        T[] data;
        foreach (row; rows)
        {
            enforce(row.length == rows[0].length, "the rows have different lengths");
            data ~= row;
        }
        return tensor(data, [cast(long) rows.length, rows.length == 0 ? 0 : cast(long) rows[0].length]);
    }

    static Value none()
    {
        return made(value => tm_value_none(value));
    }

    static Value of(bool boolean)
    {
        return made(value => tm_value_bool(boolean, value));
    }

    static Value of(long number)
    {
        return made(value => tm_value_int(number, value));
    }

    static Value of(double number)
    {
        return made(value => tm_value_float(number, value));
    }

    static Value of(string text)
    {
        return made(value => tm_value_string(text.ptr, text.length, value));
    }

    static Value list(Value[] items)
    {
        auto handles = handlesOf(items);
        return made(value => tm_value_list(handles.ptr, handles.length, value));
    }

    Kind kind()
    {
        int kind;
        check(tm_value_kind(handle, &kind));
        return cast(Kind) kind;
    }

    bool asBool()
    {
        int boolean;
        check(tm_value_get_bool(handle, &boolean));
        return boolean != 0;
    }

    long asInt()
    {
        long number;
        check(tm_value_get_int(handle, &number));
        return number;
    }

    double asFloat()
    {
        double number;
        check(tm_value_get_float(handle, &number));
        return number;
    }

    string asString()
    {
        const(char)* text;
        size_t size;
        check(tm_value_get_string(handle, &text, &size));
        return text[0 .. size].idup;
    }

    /// The sizes of a tensor.
    long[] shape()
    {
        TensorInfo info;
        check(tm_tensor_get_info(handle, &info));
        return info.shape[0 .. info.dimensions].dup;
    }

    /// The elements of a tensor in row-major order, converted to T.
    T[] elements(T)()
    {
        auto converted = made(value => tm_tensor_to_dtype(handle, dtypeOf!T, value));
        TensorInfo info;
        check(tm_tensor_get_info(converted.handle, &info));
        auto numbers = new T[cast(size_t) info.elements];
        check(tm_tensor_read(converted.handle, numbers.ptr, numbers.length * T.sizeof));
        return numbers;
    }

    /// The items of a list, a tuple or a dict; the keys of a dict in the same order.
    Value[] items()
    {
        return each((index, value) => tm_value_item(handle, index, value));
    }

    Value[] keys()
    {
        return each((index, value) => tm_value_key(handle, index, value));
    }

    private Value[] each(scope int delegate(size_t, tm_value**) read)
    {
        size_t length;
        check(tm_value_length(handle, &length));
        Value[] values;
        foreach (index; 0 .. length)
            values ~= made(value => read(index, value));
        return values;
    }

    private static const(tm_value*)[] handlesOf(Value[] values)
    {
        const(tm_value*)[] handles;
        foreach (ref value; values)
            handles ~= value.handle;
        return handles;
    }
}

/// A TorchScript model or an AOTInductor package. Threads may share it.
class Model
{
    private tm_model* handle;

    /// On a device: "cpu", "cuda:0", …
    this(string path, string device = "cpu")
    {
        check(tm_model_load(path.toStringz, device.toStringz, &handle));
    }

    ~this()
    {
        if (handle !is null)
            tm_model_free(handle);
    }

    /// Calls forward; missing arguments take their defaults.
    Value forward(Value[] arguments...)
    {
        auto handles = Value.handlesOf(arguments);
        return Value.made(value => tm_model_forward(handle, handles.ptr, handles.length, value));
    }

    /// A shape for each argument of forward that has no default: a guess from the weights.
    long[][] exampleShapes()
    {
        size_t count;
        check(tm_model_argument_count(handle, "forward", &count));
        long[][] shapes;
        foreach (index; 0 .. count)
        {
            Argument argument;
            check(tm_model_argument(handle, "forward", index, &argument));
            if (argument.hasDefault)
                break;
            long[64] shape;
            int dimensions;
            check(tm_model_example_shape(handle, "forward", index, shape.ptr, &dimensions));
            shapes ~= shape[0 .. dimensions].dup;
        }
        return shapes;
    }
}

version (unittest)
{
    import std.exception : assertThrown, collectExceptionMsg;
    import std.parallelism : parallel;
    import std.range : iota;
    import std.algorithm : canFind;
}

unittest
{
    auto model = new Model("model.pt");
    auto output = model.forward(Value.tensor([[1f, 1, 1, 1], [0f, 0, 0, 0]]));
    assert(output.kind == Kind.tensor);
    assert(output.shape == [2, 2]);
    assert(output.elements!float[0 .. 2] == [2.5f, -0.75f]);
    assert(collectExceptionMsg!TorchException(model.forward(Value.tensor([1f, 1, 1], [1, 3]))).canFind("shapes cannot be multiplied"));
    assertThrown(Value.tensor([[1f, 2], [3f]]));
    foreach (i; parallel(iota(16)))
        assert(model.forward(Value.tensor([1f, 1, 1, 1], [1, 4])).elements!double == [2.5, -0.75]);
}

unittest
{
    assert(collectExceptionMsg!TorchException(new Model("missing.pt")).canFind("missing.pt"));
    assert(Value.of("a\0ü").asString == "a\0ü");
    assert(Value.list([Value.of(7L), Value.of(true)]).items[0].asInt == 7);
}
