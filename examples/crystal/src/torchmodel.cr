# TorchScript models and AOTInductor packages, through the C API in .torchlink/capi.
#
# Failures raise TorchModel::Error with libtorch's message. Models and values free what they own when they are garbage,
# or at once by `close`.
module TorchModel
  # The program finds the library relative to itself; the specs, which are built elsewhere, by its whole path.
  @[Link(ldflags: "'-L#{__DIR__}/../.torchlink/capi' -ltorchmodel '-Wl,-rpath,$ORIGIN/.torchlink/capi' '-Wl,-rpath,#{__DIR__}/../.torchlink/capi'")]
  lib C
    type Model = Void*
    type Value = Void*

    struct TensorInfo
      data : Void*
      shape : Int64*
      strides : Int64*
      elements : Int64
      dimensions : Int32
      dtype : Int32
      element_size : Int32
      is_contiguous : Int32
      is_cpu : Int32
    end

    struct Argument
      name : UInt8*
      type : UInt8*
      default_text : UInt8*
      has_default : Int32
      keyword_only : Int32
    end

    fun tm_last_error : UInt8*
    fun tm_model_load(path : UInt8*, device : UInt8*, model : Model*) : Int32
    fun tm_model_free(model : Model) : Int32
    fun tm_model_argument_count(model : Model, method : UInt8*, count : LibC::SizeT*) : Int32
    fun tm_model_argument(model : Model, method : UInt8*, index : LibC::SizeT, argument : Argument*) : Int32
    fun tm_model_example_shape(model : Model, method : UInt8*, index : LibC::SizeT, shape : Int64*, dimensions : Int32*) : Int32
    fun tm_model_forward(model : Model, arguments : Value*, count : LibC::SizeT, result : Value*) : Int32
    fun tm_value_none(value : Value*) : Int32
    fun tm_value_bool(boolean : Int32, value : Value*) : Int32
    fun tm_value_int(number : Int64, value : Value*) : Int32
    fun tm_value_float(number : Float64, value : Value*) : Int32
    fun tm_value_string(text : UInt8*, size : LibC::SizeT, value : Value*) : Int32
    fun tm_value_list(items : Value*, count : LibC::SizeT, value : Value*) : Int32
    fun tm_value_free(value : Value) : Int32
    fun tm_value_kind(value : Value, kind : Int32*) : Int32
    fun tm_value_get_bool(value : Value, boolean : Int32*) : Int32
    fun tm_value_get_int(value : Value, number : Int64*) : Int32
    fun tm_value_get_float(value : Value, number : Float64*) : Int32
    fun tm_value_get_string(value : Value, text : UInt8**, size : LibC::SizeT*) : Int32
    fun tm_value_length(value : Value, length : LibC::SizeT*) : Int32
    fun tm_value_item(value : Value, index : LibC::SizeT, item : Value*) : Int32
    fun tm_value_key(dict : Value, index : LibC::SizeT, key : Value*) : Int32
    fun tm_tensor_copy(data : Void*, dtype : Int32, shape : Int64*, dimensions : Int32, strides : Int64*, value : Value*) : Int32
    fun tm_tensor_get_info(value : Value, info : TensorInfo*) : Int32
    fun tm_tensor_to_dtype(value : Value, dtype : Int32, result : Value*) : Int32
    fun tm_tensor_read(value : Value, buffer : Void*, size : LibC::SizeT) : Int32
  end

  # What libtorch or the C API said of a failure.
  class Error < Exception
    getter status : Int32

    def initialize(@status, message : String)
      super(message)
    end
  end

  ERROR_ARGUMENT = 1

  def self.check(status : Int32) : Nil
    raise Error.new(status, String.new(C.tm_last_error)) unless status == 0
  end

  enum Kind
    None
    Bool
    Int
    Float
    Complex
    String
    Tensor
    List
    Tuple
    Dict
    Other
  end

  DTYPES = {UInt8: 0, Int8: 1, Int16: 2, Int32: 3, Int64: 4, Float32: 6, Float64: 7, UInt16: 27, UInt32: 28, UInt64: 29}

  # Anything that a model takes or returns.
  class Value
    @handle : C::Value?

    protected def initialize(@handle : C::Value)
    end

    def self.made(& : C::Value* -> Int32) : Value
      handle = uninitialized C::Value
      TorchModel.check(yield pointerof(handle))
      new(handle)
    end

    # Free the value now; it cannot be used any more.
    def close : Nil
      if handle = @handle
        C.tm_value_free(handle)
        @handle = nil
      end
    end

    def finalize
      close
    end

    def handle : C::Value
      @handle || raise Error.new(ERROR_ARGUMENT, "the value was closed")
    end

    # A tensor with a copy of the numbers, in row-major order.
    def self.tensor(numbers : Array(T), shape : Enumerable(Int)) : Value forall T
      sizes = shape.map(&.to_i64).to_a
      count = sizes.reduce(1_i64) do |product, size|
        raise Error.new(ERROR_ARGUMENT, "#{sizes} is no shape of a tensor") if size < 0 || product > (1_i64 << 31)
        size > Int32::MAX ? 1_i64 << 40 : product * size
      end
      unless count == numbers.size
        raise Error.new(ERROR_ARGUMENT, "the shape #{sizes} does not have #{numbers.size} elements")
      end
      made { |into| C.tm_tensor_copy(numbers.to_unsafe.as(Void*), DTYPES[T.name], sizes, sizes.size, nil, into) }
    end

    # A tensor of two dimensions from rows of one length.
    def self.tensor(rows : Array(Array(T))) : Value forall T
      columns = rows.empty? ? 0 : rows.first.size
      if rows.any? { |row| row.size != columns }
        raise Error.new(ERROR_ARGUMENT, "the rows have different lengths")
      end
      tensor(rows.flatten, [rows.size, columns])
    end

    def self.none : Value
      made { |into| C.tm_value_none(into) }
    end

    def self.of(boolean : Bool) : Value
      made { |into| C.tm_value_bool(boolean ? 1 : 0, into) }
    end

    def self.of(number : Int) : Value
      made { |into| C.tm_value_int(number.to_i64, into) }
    end

    def self.of(number : Float) : Value
      made { |into| C.tm_value_float(number.to_f64, into) }
    end

    def self.of(text : String) : Value
      made { |into| C.tm_value_string(text, text.bytesize, into) }
    end

    def self.list(items : Array(Value)) : Value
      handles = items.map(&.handle)
      made { |into| C.tm_value_list(handles, handles.size, into) }
    end

    def kind : Kind
      TorchModel.check(C.tm_value_kind(handle, out number))
      Kind.new(number)
    end

    def to_bool : Bool
      TorchModel.check(C.tm_value_get_bool(handle, out boolean))
      boolean != 0
    end

    def to_i64 : Int64
      TorchModel.check(C.tm_value_get_int(handle, out number))
      number
    end

    def to_f64 : Float64
      TorchModel.check(C.tm_value_get_float(handle, out number))
      number
    end

    def text : String
      TorchModel.check(C.tm_value_get_string(handle, out chars, out size))
      String.new(chars, size)
    end

    # The sizes of a tensor.
    def shape : Array(Int64)
      TorchModel.check(C.tm_tensor_get_info(handle, out info))
      Array.new(info.dimensions) { |index| info.shape[index] }
    end

    # The elements of a tensor in row-major order, converted to a type: `elements(Float32)`.
    def elements(type : T.class) : Array(T) forall T
      converted = Value.made { |into| C.tm_tensor_to_dtype(handle, DTYPES[T.name], into) }
      TorchModel.check(C.tm_tensor_get_info(converted.handle, out info))
      numbers = Slice(T).new(info.elements.to_i32, T.zero)
      TorchModel.check(C.tm_tensor_read(converted.handle, numbers.to_unsafe.as(Void*), numbers.bytesize))
      converted.close
      numbers.to_a
    end

    # The items of a list, a tuple or a dict; the keys of a dict in the same order.
    def items : Array(Value)
      TorchModel.check(C.tm_value_length(handle, out length))
      Array.new(length.to_i32) { |index| Value.made { |into| C.tm_value_item(handle, index, into) } }
    end

    def keys : Array(Value)
      TorchModel.check(C.tm_value_length(handle, out length))
      Array.new(length.to_i32) { |index| Value.made { |into| C.tm_value_key(handle, index, into) } }
    end
  end

  # A TorchScript model or an AOTInductor package.
  class Model
    @handle : C::Model?

    # On a device: "cpu", "cuda:0", …
    def initialize(path : String, device : String = "cpu")
      path.check_no_null_byte
      TorchModel.check(C.tm_model_load(path, device, out handle))
      @handle = handle
    end

    # Free the model now; it cannot be used any more.
    def close : Nil
      if handle = @handle
        C.tm_model_free(handle)
        @handle = nil
      end
    end

    def finalize
      close
    end

    # Missing arguments take their defaults.
    def forward(*arguments : Value) : Value
      forward(arguments.to_a)
    end

    def forward(arguments : Array(Value)) : Value
      handles = arguments.map(&.handle)
      Value.made { |into| C.tm_model_forward(handle, handles, handles.size, into) }
    end

    # A shape for each argument of forward that has no default: a guess from the weights.
    def example_shapes : Array(Array(Int64))
      shapes = [] of Array(Int64)
      TorchModel.check(C.tm_model_argument_count(handle, "forward", out count))
      count.times do |index|
        TorchModel.check(C.tm_model_argument(handle, "forward", index, out argument))
        break if argument.has_default != 0
        sizes = StaticArray(Int64, 64).new(0)
        TorchModel.check(C.tm_model_example_shape(handle, "forward", index, sizes, out dimensions))
        shapes << sizes.to_a.first(dimensions)
      end
      shapes
    end

    private def handle : C::Model
      @handle || raise Error.new(ERROR_ARGUMENT, "the model was closed")
    end
  end
end
