// What model.h's Program is with libtorch 1.1 to 1.10.
#pragma once

#include "api.h"

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#if LOADER_API >= 102
#include <torch/csrc/jit/passes/inliner.h>
#endif

using ObjectPtr = c10::intrusive_ptr<c10::ivalue::Object>;

template <class Module>
const Module& module_of(const Module& loaded) {
  return loaded;
}
template <class Module>
const Module& module_of(const std::shared_ptr<Module>& loaded) { // 1.1
  return *loaded;
}

template <class Module>
auto object_in(const Module& module, int) -> decltype(module._ivalue()) {
  return module._ivalue();
}
template <class Module>
ObjectPtr object_in(const Module& module, long) {
  return module.module_object(); // to 1.3
}

class Program {
  using Loaded = decltype(torch::jit::load(std::string()));
  using Forward = decltype(module_of(std::declval<Loaded>()).find_method("forward")); // a pointer, or an optional

 public:
  // How many of the schema's arguments, at its beginning, are the module itself.
  static const size_t own_arguments = LOADER_API == 101 ? 0 : 1;

  Program(const std::string& path, c10::Device device)
      : loaded_(torch::jit::load(path, device)), forward_(module_of(loaded_).find_method("forward")) {}

  bool has_forward() const {
    return static_cast<bool>(forward_);
  }

  // From now on this method stands for forward; false where there is none of that name.
  bool select(const std::string& method) {
    Forward found = module_of(loaded_).find_method(method);
    if (!found) return false;
    forward_ = found;
    return true;
  }

  std::vector<std::string> methods() const {
    return {}; // how they are listed changed with nearly every release
  }

  const c10::FunctionSchema& schema() const {
#if LOADER_API == 101
    return forward().getSchema();
#else
    return forward().function().getSchema();
#endif
  }

  c10::IValue operator()(const std::vector<c10::IValue>& arguments) const {
    return forward()(arguments);
  }

  ObjectPtr object() const {
    return object_in(module_of(loaded_), 0);
  }

  // forward's graph, inlined; its first input is the module.
  std::string graph() const {
#if LOADER_API == 101
    return with_module(*forward().graph());
#else
    const std::shared_ptr<torch::jit::Graph> graph = forward().graph()->copy();
    torch::jit::Inline(*graph);
    return graph->toString(false);
#endif
  }

 private:
  using Method = typename std::decay<decltype(*std::declval<Forward&>())>::type;

  Method& forward() const {
    if (!has_forward()) throw std::runtime_error("the model has no method named forward");
    return *forward_;
  }

#if LOADER_API == 101
  // 1.1 hands parameters to a graph behind the arguments. Write them as later releases do: got from the module.
  std::string with_module(const torch::jit::Graph& graph) const {
    const auto& parameters = forward().initial_ivalues();
    const size_t arguments = graph.inputs().size() - parameters.size();
    std::string head = "graph(%self : Module", gets;
    for (size_t i = 0; i < graph.inputs().size(); ++i) {
      const std::string declared = "%" + graph.inputs()[i]->uniqueName() + " : " + graph.inputs()[i]->type()->str();
      if (i < arguments) {
        head += ", " + declared;
      } else {
        gets += "  " + declared + " = prim::GetAttr[name=\"" + path_of(parameters[i - arguments], object(), "") + "\"](%self)\n";
      }
    }
    const std::string text = graph.toString();
    const size_t end = text.find("):\n");
    return head + "):\n" + gets + text.substr(end == std::string::npos ? text.size() : end + 3);
  }

  // `fc.weight`; empty where the slot is not in this object nor in those inside it.
  static std::string path_of(const torch::jit::script::Slot& wanted, const ObjectPtr& object, const std::string& prefix) {
    for (size_t i = 0; i < object->type()->numAttributes(); ++i) {
      const torch::jit::script::Slot slot(object, i);
      if (slot == wanted) return prefix + slot.name();
      if (!slot.value().isObject()) continue;
      const std::string path = path_of(wanted, slot.value().toObject(), prefix + slot.name() + ".");
      if (!path.empty()) return path;
    }
    return "";
  }
#endif

  Loaded loaded_;
  mutable Forward forward_; // calling it changes it, in some releases
};
