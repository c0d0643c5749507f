require "spec"
require "../src/torchmodel"

include TorchModel

MODEL = TorchModel::Model.new("model.pt")

describe TorchModel do
  it "returns numbers" do
    output = MODEL.forward(Value.tensor([[1_f32, 1_f32, 1_f32, 1_f32], [0_f32] * 4]))
    output.kind.should eq Kind::Tensor
    output.shape.should eq [2, 2]
    output.elements(Float32).first(2).should eq [2.5, -0.75]
  end

  it "raises errors" do
    expect_raises(Error, "shapes cannot be multiplied") { MODEL.forward(Value.tensor([1_f32] * 3, [1, 3])) }
    expect_raises(Error, "missing.pt") { TorchModel::Model.new("missing.pt") }
    expect_raises(Error, "elements") { Value.tensor([1_f32] * 3, [2, 2]) }
    expect_raises(Error, "different lengths") { Value.tensor([[1_f32], [1_f32, 2_f32]]) }
  end

  it "keeps what values are given" do
    Value.of("a\0ü").text.should eq "a\0ü"
    Value.list([Value.of(7), Value.of(true)]).items[0].to_i64.should eq 7
    Value.of(0.1).to_f64.should eq 0.1
    Value.none.kind.should eq Kind::None
  end

  it "frees a value once" do
    value = Value.of(1)
    value.close
    value.close
    expect_raises(Error, "closed") { value.kind }
  end
end
