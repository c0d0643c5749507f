# frozen_string_literal: true

# Runs a model with tensors of ones: ruby main.rb [--repeat N] MODEL [SIZE...]
# The sizes are those of each input; without them they follow from the model.
require_relative "lib/torchmodel"

def show(value)
  case value.kind
  when :tensor then puts value.numbers.map { |number| format("%.9g", number) }.join(" ")
  when :list, :tuple, :dict then value.items.each { |item| show(item) }
  else puts value.plain.inspect.delete('"')
  end
end

def run(path, sizes, repeat)
  model = TorchModel::Model.new(path)
  shapes = model.example_shapes.map { |shape| sizes.empty? ? shape : sizes }
  (1..repeat).each do |number|
    ones = shapes.map { |shape| TorchModel::Value.tensor([1.0] * shape.reduce(1, :*), shape) }
    output = model.forward(*ones)
    show(output) if number == repeat
    GC.start if (number % 500).zero? # Ruby sees handles of a few bytes, not the tensors behind them
  end
end

arguments = ARGV.dup
repeat = arguments[0] == "--repeat" ? Integer(arguments.shift(2)[1].to_s, exception: false) : 1
path, *sizes = arguments
sizes.map! { |size| Integer(size, 10, exception: false) }
abort "usage: ruby main.rb [--repeat N] MODEL [SIZE...]" if path.nil? || repeat.nil? || sizes.any? { |size| size.nil? || size.negative? }
begin
  run(path, sizes, repeat)
rescue TorchModel::Error, ArgumentError => e
  abort "main.rb: #{e.message}"
end
