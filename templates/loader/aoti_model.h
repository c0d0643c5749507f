// A model compiled by AOTInductor: a package (.pt2), a directory that one was unpacked to, or a bare shared library.
#pragma once

#include "api.h"

#include <ATen/core/function_schema.h>
#include <torch/csrc/inductor/aoti_runner/model_container_runner_cpu.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "aoti_inputs.h"
#include "aoti_package.h"
#include "aoti_spec.h"
#include "json.h"
#include "tensors.h"
#include "values.h"

// What makes a runner for a kind of device that registered itself: with the argument `run_single_threaded`, or before 2.7
// without it.
using RunnerPtr = std::unique_ptr<torch::inductor::AOTIModelContainerRunner>;
inline RunnerPtr made_by(RunnerPtr (*make)(const std::string&, size_t, const std::string&, const std::string&, const bool), const std::string& path, const std::string& device, const std::string& dir) {
  return make(path, 1, device, dir, false);
}
inline RunnerPtr made_by(RunnerPtr (*make)(const std::string&, size_t, const std::string&, const std::string&), const std::string& path, const std::string& device, const std::string& dir) {
  return make(path, 1, device, dir);
}

using Keywords = std::vector<std::pair<std::string, c10::IValue>>;

class Model {
 public:
  Model(const std::string& path, c10::Device device) : device_(device) {
    namespace fs = std::filesystem;
    if (std::getenv("AOTI_RUNTIME_CHECK_INPUTS") == nullptr) check_inputs();
    const bool library = !fs::is_directory(path) && fs::path(path).extension() != ".pt2";
    if (library) {
      if (device.is_cpu()) {
        runner_ = std::make_unique<torch::inductor::AOTIModelContainerRunnerCpu>(path, 1);
      } else {
        const std::string kind = c10::DeviceTypeName(device.type(), /*lower_case=*/true);
        auto& known = torch::inductor::getAOTIModelRunnerRegistry();
        if (known.count(kind) == 0) throw std::runtime_error("this libtorch runs no compiled models on " + kind);
        runner_ = made_by(known[kind], path, device.str(), fs::path(path).parent_path().string());
      }
      used_ = runner_.get();
    } else {
      package_ = opened(path, device);
      used_ = package_->get_runner();
    }
    const std::vector<std::string> call_spec = used_->get_call_spec();
    if (call_spec.size() == 2 && !call_spec[0].empty() && !call_spec[1].empty()) {
      has_spec_ = true;
      taken_ = Spec::read(call_spec[0]);
      given_ = Spec::read(call_spec[1]);
    }
    without_ = unset_weights();
  }

  void select(const std::string& method) const {
    if (method != "forward") throw std::runtime_error("a compiled model has no method named " + method + "; it is one function");
  }

  // Positional arguments, and keyword arguments behind them in the model's order.
  std::vector<c10::IValue> bound(std::vector<c10::IValue> arguments, const Keywords& keywords) const {
    const std::vector<c10::Argument> declared = this->arguments();
    size_t taken = 0;
    for (size_t i = arguments.size(); i < declared.size() && !keywords.empty(); ++i) {
      const c10::IValue* found = nullptr;
      for (const auto& keyword : keywords) {
        if (keyword.first == declared[i].name() && declared[i].kwarg_only()) found = &keyword.second;
      }
      if (found == nullptr) throw std::runtime_error(declared[i].name() + " is missing");
      arguments.push_back(*found);
      ++taken;
    }
    for (const auto& keyword : keywords) {
      bool known = false;
      for (const c10::Argument& argument : declared) known = known || (argument.kwarg_only() && argument.name() == keyword.first);
      if (!known) throw std::runtime_error("there is no keyword argument named " + keyword.first);
    }
    if (taken != keywords.size()) throw std::runtime_error("an argument is given twice");
    if (called_by_spec()) flat(arguments); // throws where the structure is not that of the export
    return arguments;
  }

  // Positions have no names in a compiled model; keyword arguments follow them.
  std::vector<c10::Argument> arguments() const {
    std::vector<c10::Argument> all;
    if (!called_by_spec()) return all;
    const size_t positions = taken_.parts[0].parts.size();
    for (size_t i = 0; i < positions; ++i) all.emplace_back("argument " + std::to_string(i + 1), c10::AnyType::get());
    for (const c10::IValue& key : taken_.parts[1].keys) all.emplace_back(key.toStringRef(), c10::AnyType::get(), std::nullopt, std::nullopt, /*kwarg_only=*/true);
    return all;
  }

  c10::IValue operator()(const std::vector<c10::IValue>& arguments) const {
    if (!without_.empty()) { // it would read them from nowhere
      std::string names;
      for (const std::string& name : without_) names += (names.empty() ? "" : ", ") + name;
      throw std::runtime_error("the weights of the model are not in it, and were not given: " + names);
    }
    std::vector<at::Tensor> tensors = flat(arguments);
    lay_out(tensors);
    const std::vector<at::Tensor> results = run(*used_, tensors);
    if (!has_spec_ || given_.leaves() != results.size()) {
      std::vector<c10::IValue> all;
      for (const at::Tensor& result : results) all.push_back(result.defined() ? c10::IValue(result) : c10::IValue());
      return all.size() == 1 ? all.front() : tuple_of(c10::TypePtr(), std::move(all));
    }
    size_t at = 0;
    return given_.unflatten(results, at);
  }

  std::vector<std::string> argument_names() const {
    std::vector<std::string> names;
    for (const c10::Argument& argument : arguments()) names.push_back(json_string(argument.name()));
    return names;
  }

  std::string schema_json() const {
    std::vector<std::string> declared;
    for (const c10::Argument& argument : arguments()) {
      JsonObject one;
      one.add("name", json_string(argument.name())).add("type", "\"Any\"").add("has_default", "false").add("default", "null");
      declared.push_back(one.add("kwarg_only", argument.kwarg_only() ? "true" : "false").text());
    }
    return JsonObject().add("name", "\"forward\"").add("arguments", json_array(declared)).text();
  }

  // As of a TorchScript model; besides the structure of the inputs, and the names of weights that are not set.
  std::string described() const {
    std::vector<std::string> weights;
    for (const std::string& name : without_) weights.push_back(json_string(name));
    JsonObject out;
    out.add("event", "\"described\"").add("schema", schema_json()).add("graph", "\"\"").add("attributes", "{}").add("constants", "[]");
    return out.add("takes", called_by_spec() ? taken_.json() : "null").add("unset_weights", json_array(weights)).text();
  }

  // The tensors that the model takes, found out by asking it.
  std::string inputs_json() const {
    return inputs_of(*used_, device_, has_spec_ ? taken_.leaves() : 1);
  }

  // Strides that the following inputs are laid out with, by their number among the model's tensors.
  void set_strides(std::vector<Sizes> strides) {
    strides_ = std::move(strides);
  }

  // Weights that are not in the library, by their names in the module: `fc.weight`.
  void set_weights(const std::unordered_map<std::string, at::Tensor>& by_original) {
    std::unordered_map<std::string, at::Tensor> by_name;
    for (const auto& pair : used_->getConstantNamesToOriginalFQNs()) {
      const auto found = by_original.find(pair.second);
      if (found != by_original.end()) by_name.emplace(pair.first, found->second);
    }
    torch::inductor::TensorConstantMap pointers;
    for (auto& pair : by_name) {
      weights_.push_back(pair.second.to(device_));
      pointers.emplace(pair.first, &weights_.back());
    }
    used_->update_constant_buffer(pointers, /*use_inactive=*/false, /*validate_full_updates=*/true);
    without_.clear();
  }

 private:
  using PackagePtr = std::unique_ptr<torch::inductor::AOTIModelPackageLoader>;

  // Of a directory the only model in it. A libtorch that takes no directory is given the package next to it.
  static PackagePtr opened(const std::string& path, c10::Device device) {
    namespace fs = std::filesystem;
    const int index = device.is_cpu() ? -1 : device.index();
    if (!fs::is_directory(path)) return packaged_model(path, "model", index);
    std::string name = "model";
    for (const auto& entry : fs::directory_iterator(fs::path(path) / "data" / "aotinductor")) name = entry.path().filename().string();
    try {
      return packaged_model(path, name, index);
    } catch (const std::exception& error) {
      const std::string package = path + ".pt2";
      const bool was_read = std::string(error.what()).find("dlopen") != std::string::npos; // libtorch would leave what it unpacks
      if (was_read || !fs::exists(package)) throw;
      return packaged_model(package, name, index);
    }
  }

  std::vector<std::string> unset_weights() const {
    std::vector<std::string> names = weights_without_values(*used_, 0);
    std::sort(names.begin(), names.end());
    return names;
  }

  bool called_by_spec() const { // `((args…), {kwargs…})`
    return taken_.parts.size() == 2;
  }

  std::vector<at::Tensor> flat(const std::vector<c10::IValue>& arguments) const {
    std::vector<at::Tensor> tensors;
    if (!called_by_spec()) {
      for (size_t i = 0; i < arguments.size(); ++i) Spec().flatten(arguments[i], "argument " + std::to_string(i + 1), tensors);
      return tensors;
    }
    const std::vector<c10::Argument> declared = this->arguments();
    if (declared.size() != arguments.size()) {
      throw std::runtime_error("the model takes " + std::to_string(declared.size()) + " arguments, and " + std::to_string(arguments.size()) + " were given");
    }
    const size_t positions = taken_.parts[0].parts.size();
    for (size_t i = 0; i < arguments.size(); ++i) {
      const Spec& spec = i < positions ? taken_.parts[0].parts[i] : taken_.parts[1].parts[i - positions];
      spec.flatten(arguments[i], declared[i].name(), tensors);
    }
    return tensors;
  }

  void lay_out(std::vector<at::Tensor>& tensors) const {
    for (size_t i = 0; i < tensors.size() && i < strides_.size(); ++i) {
      if (strides_[i].size() != static_cast<size_t>(tensors[i].dim()) || tensors[i].strides() == c10::IntArrayRef(strides_[i])) continue;
      at::Tensor laid = at::empty_strided(tensors[i].sizes(), strides_[i], tensors[i].options());
      laid.copy_(tensors[i]);
      tensors[i] = laid;
    }
  }

  c10::Device device_;
  std::unique_ptr<torch::inductor::AOTIModelPackageLoader> package_;
  std::unique_ptr<torch::inductor::AOTIModelContainerRunner> runner_;
  torch::inductor::AOTIModelContainerRunner* used_ = nullptr;
  bool has_spec_ = false; // of inputs and outputs
  Spec taken_, given_;
  std::vector<std::string> without_; // weights, by name
  std::vector<Sizes> strides_;
  std::deque<at::Tensor> weights_; // a deque keeps its elements where they are
};
