# frozen_string_literal: true

require_relative "../lib/torchmodel"

# Checks that stop the script with the line that failed; Ruby's test libraries are gems.
def check(right, what)
  abort "#{caller(1..1).first}: #{what}" unless right
end

def check_error(error, text)
  yield
  abort "#{caller(1..1).first}: no #{error}"
rescue error => e
  check(e.message.include?(text), "#{e.message.inspect} does not have #{text.inspect}")
end

model = TorchModel::Model.new(File.expand_path("../model.pt", __dir__))
output = model.forward(TorchModel::Value.tensor([[1, 1, 1, 1], [0, 0, 0, 0]]))
check(output.kind == :tensor, output.kind)
check(output.shape == [2, 2], output.shape)
check(output.numbers.first(2) == [2.5, -0.75], output.numbers)
check_error(TorchModel::Error, "shapes cannot be multiplied") { model.forward(TorchModel::Value.tensor([[1, 1, 1]])) }
check_error(ArgumentError, "different lengths") { TorchModel::Value.tensor([[1, 2], [3]]) }
check_error(TorchModel::Error, "missing.pt") { TorchModel::Model.new("missing.pt") }
[nil, true, 7, 2.5, "text", "a\0b"].each { |plain| check(TorchModel::Value.of(plain).plain == plain, plain.inspect) }
check(TorchModel::Value.of([1, 2]).items.map(&:plain) == [1, 2], "a list")
threads = Array.new(4) { Thread.new { model.forward(TorchModel::Value.tensor([[1, 1, 1, 1]])).numbers } }
check(threads.map(&:value).uniq == [[2.5, -0.75]], "threads")
puts "ok"
