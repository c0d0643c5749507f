// A TorchScript model: loading it, its forward, and what can be told about it.
#pragma once

#include "api.h"

#if LOADER_API >= 111

#if __has_include(<torch/headeronly/version.h>)
#include <torch/headeronly/version.h>
#elif __has_include(<torch/version.h>)
#include <torch/version.h>
#endif

#include <ATen/core/class_type.h>
#include <ATen/core/function.h>
#include <ATen/core/function_schema.h>

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using ObjectPtr = c10::intrusive_ptr<c10::ivalue::Object>;

// torch/csrc/jit/serialization/import.h and torch/csrc/jit/api/module.h bring the whole compiler of
// TorchScript along: 3 of 8 seconds, only to name three functions. Where those functions are known to be as
// declared here they are declared here, and the linker checks them; for any other version torch's own
// headers are read. tests/verify/test_loader.py compares these declarations with torch's.
#if defined(TORCH_VERSION_MAJOR) && !defined(LOADER_FULL_HEADERS) && TORCH_VERSION_MAJOR == 2 && \
    TORCH_VERSION_MINOR >= 6 && TORCH_VERSION_MINOR <= 15

#include <c10/core/Device.h>
#include <optional>

namespace torch {
namespace jit {

// What `load` returns is torch's Module: its object first, and at most 504 bytes behind. Only the object
// is used; the rest is kept as it is until the process ends, because only torch knows how to destroy it.
struct LoadedModule {
  ObjectPtr object;
  void* rest[63];
  LoadedModule(const LoadedModule&) = delete;
  LoadedModule& operator=(const LoadedModule&) = delete;
};
LoadedModule load(const std::string& filename, std::optional<c10::Device> device, bool load_debug_files);

struct Graph {
  std::string toString(bool print_source_locations) const;
};
struct GraphFunction {
  std::shared_ptr<Graph> optimized_graph() const;
};
GraphFunction& toGraphFunction(Function& function);

namespace interpreter {
struct CodeImpl;
}
struct Code {
  Code(const std::shared_ptr<Graph>& graph, std::string function_name, size_t remaining_bailout_depth);
  const std::vector<c10::IValue>& constant_table() const;

 private:
  std::shared_ptr<interpreter::CodeImpl> pImpl;
};

} // namespace jit
} // namespace torch

inline ObjectPtr load_object(const std::string& path, c10::Device device) {
  using torch::jit::LoadedModule;
  static std::vector<LoadedModule*>& kept = *new std::vector<LoadedModule*>(); // in reach of leak checkers
  kept.push_back(new LoadedModule(torch::jit::load(path, device, true)));
  return kept.back()->object;
}

#else

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/interpreter.h>
#include <torch/csrc/jit/serialization/import.h>

inline ObjectPtr load_object(const std::string& path, c10::Device device) {
  return torch::jit::load(path, device)._ivalue();
}

#endif

// What torch has loaded.
class Program {
 public:
  static const size_t own_arguments = 1; // of the schema, at its beginning: the module itself, mostly named `self`

  Program(const std::string& path, c10::Device device)
      : object_(load_object(path, device)), forward_(object_->type()->findMethod("forward")) {}

  bool has_forward() const {
    return forward_ != nullptr;
  }

  // From now on this method stands for forward; false where there is none of that name.
  bool select(const std::string& method) {
    torch::jit::Function* const found = object_->type()->findMethod(method);
    if (found != nullptr) forward_ = found;
    return found != nullptr;
  }

  std::vector<std::string> methods() const {
    std::vector<std::string> names;
    for (const torch::jit::Function* method : object_->type()->methods()) names.push_back(method->name());
    return names;
  }

  const c10::FunctionSchema& schema() const {
    return forward().getSchema();
  }

  c10::IValue operator()(const std::vector<c10::IValue>& arguments) const {
    std::vector<c10::IValue> stack{object_};
    stack.insert(stack.end(), arguments.begin(), arguments.end());
    return forward()(std::move(stack));
  }

  ObjectPtr object() const {
    return object_;
  }

  // forward's graph, inlined; its first input is the module.
  std::string graph() const {
    return torch::jit::toGraphFunction(forward()).optimized_graph()->toString(false);
  }

  // Of that graph, in the order of its text: the interpreter keeps them so. Large tensors have no text there.
  std::vector<c10::IValue> constants() const {
    try {
      return torch::jit::Code(torch::jit::toGraphFunction(forward()).optimized_graph(), "forward", 0).constant_table();
    } catch (const std::exception&) { // a graph that cannot be made ready to run: forward will say why
      return {};
    }
  }

 private:
  torch::jit::Function& forward() const {
    if (forward_ == nullptr) throw std::runtime_error("the model has no method named forward");
    return *forward_;
  }

  ObjectPtr object_;
  torch::jit::Function* forward_;
};

#else
#include "older_program.h"
#endif

#include <sstream>

#include "json.h"
#include "tensors.h"
#include "values.h"
#include "weights.h"

using Keywords = std::vector<std::pair<std::string, c10::IValue>>;

class Model {
 public:
  Model(const std::string& path, c10::Device device) : program_(path, device) {}

  // forward's, without the module itself.
  std::vector<c10::Argument> arguments() const {
    const auto& all = program_.schema().arguments();
    return {all.begin() + Program::own_arguments, all.end()};
  }

  void select(const std::string& method) {
    if (!program_.select(method)) {
      std::string others;
      for (const std::string& name : program_.methods()) {
        if (name.compare(0, 2, "__") != 0) others += (others.empty() ? "; it has " : ", ") + name;
      }
      throw std::runtime_error("the model has no method named " + method + others);
    }
    method_ = method;
  }

  const std::string& method() const {
    return method_;
  }

  // Positional arguments, and keyword arguments behind them in the schema's order; a gap takes its default.
  std::vector<c10::IValue> bound(std::vector<c10::IValue> arguments, const Keywords& keywords) const {
    if (keywords.empty()) return arguments;
    const std::vector<c10::Argument> declared = this->arguments();
    std::vector<const c10::IValue*> given(declared.size(), nullptr);
    size_t end = arguments.size();
    for (const auto& keyword : keywords) {
      size_t i = 0;
      while (i < declared.size() && declared[i].name() != keyword.first) ++i;
      if (i == declared.size()) throw std::runtime_error("there is no argument named " + keyword.first);
      if (i < arguments.size() || given[i] != nullptr) throw std::runtime_error("argument " + keyword.first + " is given twice");
      given[i] = &keyword.second;
      end = i + 1 > end ? i + 1 : end;
    }
    for (size_t i = arguments.size(); i < end; ++i) {
      if (given[i] == nullptr && !declared[i].default_value()) throw std::runtime_error("argument " + declared[i].name() + " is missing");
      arguments.push_back(given[i] != nullptr ? *given[i] : *declared[i].default_value());
    }
    return arguments;
  }

  // Arguments as a caller gives them, without the module itself; missing ones take their defaults.
  c10::IValue operator()(const std::vector<c10::IValue>& arguments) const {
    return program_(arguments);
  }

  // As JSON strings; none where there is no forward.
  std::vector<std::string> argument_names() const {
    std::vector<std::string> names;
    if (!program_.has_forward()) return names;
    for (const c10::Argument& argument : arguments()) names.push_back(json_string(argument.name()));
    return names;
  }

  // `{"name":…,"arguments":[…]}` of what `forward` calls; null where there is no such method.
  std::string schema_json() const {
    if (!program_.has_forward()) return "null";
    std::vector<std::string> declared;
    for (const c10::Argument& argument : arguments()) {
      std::string fallback = "null";
      if (argument.default_value()) fallback = json_string(plain(*argument.default_value()));
      declared.push_back(JsonObject()
                             .add("name", json_string(argument.name()))
                             .add("type", json_string(type_text(*argument.type())))
                             .add("has_default", argument.default_value() ? "true" : "false")
                             .add("default", fallback)
                             .add("kwarg_only", argument.kwarg_only() ? "true" : "false")
                             .text());
    }
    return JsonObject().add("name", json_string(method_)).add("arguments", json_array(declared)).text();
  }

  // Schema, inlined graph in TorchScript's own notation, and the attributes.
  std::string described() const {
    const std::string schema = schema_json();
    const std::string graph = program_.graph();
    JsonObject tensors;
    collect(*program_.object(), "", 0, tensors);
    return JsonObject()
        .add("event", "\"described\"")
        .add("schema", schema)
        .add("graph", json_string(graph))
        .add("attributes", tensors.text())
        .add("constants", json_array(constants()))
        .text();
  }

  // What is known of the graph's constants, in order: weights that freezing put there. None before libtorch 1.11.
  std::vector<std::string> constants() const {
    std::vector<std::string> known;
#if LOADER_API >= 111
    for (const c10::IValue& value : program_.constants()) known.push_back(weight_json(value));
#endif
    return known;
  }

  static std::string plain(const c10::IValue& value) {
    std::ostringstream text;
    text << value;
    return text.str();
  }

 private:
  // The attributes of an object and of the objects inside it: `"fc.weight": {"dtype":…, "shape":…}`, and
  // plain numbers, bools and strings as they are.
  static void collect(const c10::ivalue::Object& object, const std::string& prefix, int depth, JsonObject& found) {
    const std::shared_ptr<c10::ClassType> type = object.type();
    for (size_t i = 0; i < type->numAttributes() && depth < 64; ++i) {
      const c10::IValue& value = object.getSlot(i);
      const std::string name = prefix + type->getAttributeName(i);
#if LOADER_API >= 111
      const std::string weight = value.isCustomClass() || value.isList() ? weight_json(value) : "null";
      if (weight.find("\"shape\"") != std::string::npos) {
        found.add(name, weight);
        continue;
      }
#endif
      if (value.isObject()) {
        collect(*value.toObject(), name + ".", depth + 1, found);
      } else if (value.isTensor() && value.toTensor().defined()) {
        found.add(name, about(value.toTensor()).text());
      } else if (value.isInt()) {
        found.add(name, json_number(static_cast<long long>(value.toInt())));
      } else if (value.isDouble()) {
        found.add(name, json_number(value.toDouble()));
      } else if (value.isBool()) {
        found.add(name, value.toBool() ? "true" : "false");
      } else if (value.isString()) {
        found.add(name, json_string(value.toStringRef()));
      }
    }
  }

  Program program_;
  std::string method_ = "forward";
};
