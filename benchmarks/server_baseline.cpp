// torch-serving's design, as far as it goes: cpp-httplib with a thread for each connection, and nlohmann/json.
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <httplib.h>
#include <nlohmann/json.hpp>

#include <cstdio>

int main(int, char** words) {
  at::set_num_threads(1);
  torch::jit::Module module = torch::jit::load(words[1]);
  module.eval();
  httplib::Server server;
  server.new_task_queue = [] { return new httplib::ThreadPool(64); };
  server.set_keep_alive_max_count(1 << 30);
  server.set_tcp_nodelay(true);
  server.Get("/ping", [](const httplib::Request&, httplib::Response& answer) { answer.set_content("{\"status\":\"Healthy\"}", "application/json"); });
  server.Post("/predictions", [&](const httplib::Request& request, httplib::Response& answer) {
    const c10::InferenceMode guard;
    const auto json = nlohmann::json::parse(request.body);
    std::vector<float> values = json[0]["value"].get<std::vector<float>>();
    const at::Tensor input = at::from_blob(values.data(), json[0]["shape"].get<std::vector<int64_t>>()).clone();
    const at::Tensor output = module.forward({input}).toTensor().contiguous();
    nlohmann::json out{{"type", "tensor"}, {"data_type", "float32"}, {"shape", output.sizes().vec()}};
    out["value"] = std::vector<float>(output.data_ptr<float>(), output.data_ptr<float>() + output.numel());
    answer.set_content(out.dump(), "application/json");
  });
  const int port = server.bind_to_any_port("127.0.0.1");
  std::printf("listening on :%d\n", port);
  std::fflush(stdout);
  server.listen_after_bind();
}
