require "spec"
require "../src/torchmodel"

MODEL = TorchModel::Model.new("model.pt")

describe TorchModel do
  it "returns numbers" do
    output = MODEL.forward(TorchModel::Value.tensor([[1_f32, 1_f32, 1_f32, 1_f32], [0_f32] * 4]))
    output.kind.should eq TorchModel::Kind::Tensor
    output.shape.should eq [2, 2]
    output.elements(Float32).first(2).should eq [2.5, -0.75]
  end

  it "raises errors" do
    expect_raises(TorchModel::Error, "shapes cannot be multiplied") { MODEL.forward(TorchModel::Value.tensor([1_f32] * 3, [1, 3])) }
    expect_raises(TorchModel::Error, "missing.pt") { TorchModel::Model.new("missing.pt") }
    expect_raises(TorchModel::Error, "elements") { TorchModel::Value.tensor([1_f32] * 3, [2, 2]) }
    expect_raises(TorchModel::Error, "different lengths") { TorchModel::Value.tensor([[1_f32], [1_f32, 2_f32]]) }
  end

  it "keeps what values are given" do
    TorchModel::Value.of("a\0ü").text.should eq "a\0ü"
    TorchModel::Value.list([TorchModel::Value.of(7), TorchModel::Value.of(true)]).items[0].to_i64.should eq 7
    TorchModel::Value.of(0.1).to_f64.should eq 0.1
    TorchModel::Value.none.kind.should eq TorchModel::Kind::None
  end

  it "frees a value once" do
    value = TorchModel::Value.of(1)
    value.close
    value.close
    expect_raises(TorchModel::Error, "closed") { value.kind }
  end
end
