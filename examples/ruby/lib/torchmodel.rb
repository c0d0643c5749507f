# frozen_string_literal: true

require "fiddle"
require "fiddle/import"

# TorchScript models and AOTInductor packages in Ruby, through the C API in .torchlink/capi.
#
# Failures are a TorchModel::Error with libtorch's message. Models and values are freed when they are garbage.
module TorchModel
  class Error < StandardError; end

  # The functions of torchmodel.h.
  module C
    extend Fiddle::Importer
    dlload File.expand_path("../.torchlink/capi/libtorchmodel.so", __dir__)
    typealias "int32_t", "int"
    typealias "int64_t", "long long"
    Info = struct ["void *data", "void *shape", "void *strides", "int64_t elements", "int32_t dimensions",
                   "int32_t dtype", "int32_t element_size", "int32_t is_contiguous", "int32_t is_cpu"]
    Argument = struct ["char *name", "char *type", "char *default_text", "int32_t has_default", "int32_t keyword_only"]
    extern "char *tm_last_error()"
    extern "int tm_model_load(char *, char *, void *)"
    extern "int tm_model_free(void *)"
    extern "int tm_model_argument_count(void *, char *, void *)"
    extern "int tm_model_argument(void *, char *, size_t, void *)"
    extern "int tm_model_example_shape(void *, char *, size_t, void *, void *)"
    extern "int tm_model_forward(void *, void *, size_t, void *)"
    extern "int tm_value_none(void *)"
    extern "int tm_value_bool(int, void *)"
    extern "int tm_value_int(long long, void *)"
    extern "int tm_value_float(double, void *)"
    extern "int tm_value_string(char *, size_t, void *)"
    extern "int tm_value_list(void *, size_t, void *)"
    extern "int tm_value_free(void *)"
    extern "int tm_value_kind(void *, void *)"
    extern "int tm_value_get_bool(void *, void *)"
    extern "int tm_value_get_int(void *, void *)"
    extern "int tm_value_get_float(void *, void *)"
    extern "int tm_value_get_string(void *, void *, void *)"
    extern "int tm_value_length(void *, void *)"
    extern "int tm_value_item(void *, size_t, void *)"
    extern "int tm_value_key(void *, size_t, void *)"
    extern "int tm_tensor_copy(void *, int, void *, int, void *, void *)"
    extern "int tm_tensor_get_info(void *, void *)"
    extern "int tm_tensor_to_dtype(void *, int, void *)"
    extern "int tm_tensor_read(void *, void *, size_t)"
  end

  KINDS = %i[none bool int float complex string tensor list tuple dict other].freeze
  # dtype => its number in the C API, and the letter of Array#pack.
  DTYPES = { uint8: [0, "C"], int8: [1, "c"], int16: [2, "s"], int32: [3, "l"], int64: [4, "q"],
             float32: [6, "e"], float64: [7, "E"] }.freeze

  def self.check(status)
    raise Error, C.tm_last_error.to_s.force_encoding("UTF-8") unless status.zero?
  end

  # Calls a function with memory for a result, and returns that unpacked.
  def self.read(letter, bytes = 8)
    memory = "\0".b * bytes
    check(yield(memory))
    memory.unpack1(letter)
  end

  def self.handles(values)
    values.map(&:handle).pack("J*")
  end

  # Anything that a model takes or returns.
  class Value
    attr_reader :handle

    def initialize(&write)
      @handle = TorchModel.read("J", &write)
      ObjectSpace.define_finalizer(self, self.class.release(@handle))
    end

    def self.release(handle)
      proc { C.tm_value_free(handle) }
    end

    # A tensor of nested arrays of numbers, or of a flat one and a shape.
    def self.tensor(numbers, shape = nil, dtype: :float32)
      shape ||= shape_of(numbers)
      flat = numbers.flatten
      raise ArgumentError, "the shape #{shape} does not have #{flat.size} elements" if shape.reduce(1, :*) != flat.size

      number, letter = DTYPES.fetch(dtype)
      data = flat.pack("#{letter}*")
      new { |out| C.tm_tensor_copy(data, number, shape.pack("q*"), shape.size, nil, out) }
    end

    def self.shape_of(numbers)
      return [] unless numbers.is_a?(Array)

      inner = numbers.map { |part| shape_of(part) }.uniq
      raise ArgumentError, "the rows have different lengths" if inner.size > 1

      [numbers.size, *inner.first]
    end
    private_class_method :shape_of

    # A value of nil, true, false, a number, a string or an array.
    def self.of(plain)
      case plain
      when Value then plain
      when nil then new { |out| C.tm_value_none(out) }
      when true, false then new { |out| C.tm_value_bool(plain ? 1 : 0, out) }
      when Integer then new { |out| C.tm_value_int(plain, out) }
      when Float then new { |out| C.tm_value_float(plain, out) }
      when String then new { |out| C.tm_value_string(plain, plain.bytesize, out) }
      when Array
        items = plain.map { |item| of(item) }
        new { |out| C.tm_value_list(TorchModel.handles(items), items.size, out) }
      else raise ArgumentError, "a model does not take #{plain.class}"
      end
    end

    def kind
      KINDS[TorchModel.read("l", 4) { |out| C.tm_value_kind(@handle, out) }]
    end

    # The sizes of a tensor.
    def shape
      info = C::Info.malloc(Fiddle::RUBY_FREE)
      TorchModel.check(C.tm_tensor_get_info(@handle, info))
      info.dimensions.zero? ? [] : info.shape[0, 8 * info.dimensions].unpack("q*")
    end

    # The elements of a tensor in row-major order, as Floats.
    def numbers
      wide = Value.new { |out| C.tm_tensor_to_dtype(@handle, DTYPES[:float64][0], out) }
      memory = "\0".b * (8 * wide.shape.reduce(1, :*))
      TorchModel.check(C.tm_tensor_read(wide.handle, memory, memory.bytesize))
      memory.unpack("E*")
    end

    # The items of a list, a tuple or a dict; the keys of a dict in the same order.
    def items
      Array.new(length) { |index| Value.new { |out| C.tm_value_item(@handle, index, out) } }
    end

    def keys
      Array.new(length) { |index| Value.new { |out| C.tm_value_key(@handle, index, out) } }
    end

    # A none, bool, number or string as Ruby's own.
    def plain
      case kind
      when :none then nil
      when :bool then TorchModel.read("l", 4) { |out| C.tm_value_get_bool(@handle, out) } != 0
      when :int then TorchModel.read("q") { |out| C.tm_value_get_int(@handle, out) }
      when :float then TorchModel.read("E") { |out| C.tm_value_get_float(@handle, out) }
      else
        size = "\0".b * 8
        text = TorchModel.read("J") { |out| C.tm_value_get_string(@handle, out, size) }
        Fiddle::Pointer.new(text)[0, size.unpack1("Q")].force_encoding("UTF-8")
      end
    end

    private

    def length
      TorchModel.read("Q") { |out| C.tm_value_length(@handle, out) }
    end
  end

  # A TorchScript model or an AOTInductor package.
  class Model
    def initialize(path, device = "cpu")
      @handle = TorchModel.read("J") { |out| C.tm_model_load(path, device, out) }
      ObjectSpace.define_finalizer(self, self.class.release(@handle))
    end

    def self.release(handle)
      proc { C.tm_model_free(handle) }
    end

    # Calls forward; missing arguments take their defaults.
    def forward(*arguments)
      values = arguments.map { |argument| Value.of(argument) }
      Value.new { |out| C.tm_model_forward(@handle, TorchModel.handles(values), values.size, out) }
    end

    # A shape for each argument of forward that has no default: a guess from the weights.
    def example_shapes
      count = TorchModel.read("Q") { |out| C.tm_model_argument_count(@handle, "forward", out) }
      argument = C::Argument.malloc(Fiddle::RUBY_FREE)
      required = (0...count).take_while do |index|
        TorchModel.check(C.tm_model_argument(@handle, "forward", index, argument))
        argument.has_default.zero?
      end
      required.map do |index|
        sizes = "\0".b * (8 * 64)
        dimensions = TorchModel.read("l", 4) { |out| C.tm_model_example_shape(@handle, "forward", index, sizes, out) }
        sizes.unpack("q#{dimensions}")
      end
    end
  end
end
