// What a request costs without HTTP: `bare MODEL FLOATS` prints medians in microseconds, as one JSON object. The values of the project
// that `torchlink new server` writes are compiled in (-I of its src/), and nlohmann/json does the same for comparison.
#include <c10/core/InferenceMode.h>
#include <ATen/Parallel.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include "models/torchscript.cpp"
#include "values/image.cpp"
#include "values/reading.cpp"
#include "values/writing.cpp"

template <typename Work>
double median(const Work& work) {
  std::vector<double> all;
  for (int i = 0; i < 3000; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    all.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count());
  }
  std::nth_element(all.begin(), all.begin() + 1500, all.end());
  return all[1500];
}

int main(int count, char** words) {
  if (count != 3) return 2;
  at::set_num_threads(1);
  const std::unique_ptr<Servable> model = open_torchscript(words[1]);
  const int floats = std::atoi(words[2]);
  std::string body = "[{\"type\":\"tensor\",\"data_type\":\"float32\",\"shape\":[1," + std::to_string(floats) + "],\"value\":[";
  for (int i = 0; i < floats; ++i) body += (i > 0 ? "," : "") + std::to_string(0.001 * i - 0.3);
  body += "]}]";
  body.reserve(body.size() + 64);
  std::vector<c10::IValue> arguments;
  const auto parse = [&] {
    const c10::InferenceMode guard;
    const Json json(body);
    arguments = read_arguments(json.root(), model->signature());
  };
  parse();
  c10::IValue result = model->call(arguments);
  std::string out;
  const double parsed = median(parse);
  const double forward = median([&] { result = model->call(arguments); });
  const double printed = median([&] {
    out.clear();
    append_value(out, result);
  });
  // As torch-serving does it: a document, a vector, a tensor of it, and back.
  const double other_parsed = median([&] {
    const auto json = nlohmann::json::parse(body);
    std::vector<float> values = json[0]["value"].get<std::vector<float>>();
    const std::vector<int64_t> shape = json[0]["shape"].get<std::vector<int64_t>>();
    arguments[0] = at::from_blob(values.data(), shape).clone();
  });
  const double other_printed = median([&] {
    const at::Tensor tensor = result.toTensor().contiguous();
    nlohmann::json json{{"type", "tensor"}, {"data_type", "float32"}, {"shape", tensor.sizes().vec()}};
    json["value"] = std::vector<float>(tensor.data_ptr<float>(), tensor.data_ptr<float>() + tensor.numel());
    out = json.dump();
  });
  std::printf("{\"parsed\":%.2f,\"forward\":%.2f,\"printed\":%.2f,\"nlohmann_parsed\":%.2f,\"nlohmann_printed\":%.2f}\n", parsed, forward, printed, other_parsed, other_printed);
}
