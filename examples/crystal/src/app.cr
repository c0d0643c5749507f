# Runs a model with tensors of ones: app [--repeat N] MODEL [SIZE...]
# The sizes are those of each input; without them they follow from the model.
require "./torchmodel"

def show(value : TorchModel::Value)
  case value.kind
  when .tensor?                then puts value.elements(Float64).join(" ")
  when .list?, .tuple?, .dict? then value.items.each { |item| show(item) }
  when .string?                then puts value.text
  when .int?                   then puts value.to_i64
  when .float?                 then puts value.to_f64
  when .bool?                  then puts value.to_bool
  else                              puts value.kind.to_s.downcase
  end
end

def ones(shape : Array(Int64))
  TorchModel::Value.tensor(Array.new(shape.product, 1_f32), shape)
end

def run(path : String, sizes : Array(Int64), repeat : Int64)
  model = TorchModel::Model.new(path)
  shapes = model.example_shapes
  (1..repeat).each do |number|
    inputs = shapes.map { |guess| ones(sizes.empty? ? guess : sizes) }
    output = model.forward(inputs)
    show(output) if number == repeat
    output.close # the garbage collector does not know how much memory is behind it
    inputs.each(&.close)
  end
end

def usage : NoReturn
  STDERR.puts "usage: app [--repeat N] MODEL [SIZE...]"
  exit 2
end

# A whole number below a million.
def number(text : String) : Int64
  usage unless text.matches?(/\A[0-9]{1,6}\z/)
  text.to_i64
end

arguments = ARGV.dup
repeat = 1_i64
if arguments.size > 1 && arguments[0] == "--repeat"
  repeat = number(arguments[1])
  arguments.shift(2)
end
usage if arguments.empty?
begin
  run(arguments[0], arguments[1..].map { |text| number(text) }, repeat)
rescue error : TorchModel::Error | ArgumentError | OverflowError
  STDERR.puts "app: #{error.message}"
  exit 1
end
