// The weights inside a model that are no attributes of tensor type: the constants of a frozen graph, and objects
// of libtorch's own classes that hold packed weights (quantized layers, prepacked operators).
#pragma once

#include "api.h"

#if LOADER_API >= 111

#include <exception>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/class_type.h>
#include <ATen/core/function.h>

#include "json.h"
#include "tensors.h"

// What is found in an object's state: tensors, and the whole numbers and their lists in the order of the state.
struct Packed {
  std::vector<std::string> weights, numbers;
};

inline std::string whole_json(int64_t number) {
  return json_number(static_cast<long long>(number));
}

// The value of a method without arguments; none where there is no such method, or it fails.
inline c10::IValue asked(const c10::IValue& object, const std::string& method) {
  torch::jit::Function* const found = object.toObjectRef().type()->findMethod(method);
  if (found == nullptr || found->getSchema().arguments().size() != 1) return c10::IValue();
  try {
    return (*found)(std::vector<c10::IValue>{object});
  } catch (const std::exception&) {
    return c10::IValue();
  }
}

inline void unpack(const c10::IValue& value, int depth, Packed& found) {
  if (depth > 8 || found.weights.size() > 100) return;
  if (value.isTensor()) {
    if (value.toTensor().defined()) found.weights.push_back(about(value.toTensor()).text());
  } else if (value.isInt()) {
    found.numbers.push_back(whole_json(value.toInt()));
  } else if (value.isIntList()) {
    std::vector<std::string> items;
    for (const int64_t item : value.toIntVector()) items.push_back(whole_json(item));
    found.numbers.push_back(json_array(items));
  } else if (value.isTuple()) {
    for (const c10::IValue& element : value.toTupleRef().elements()) unpack(element, depth + 1, found);
  } else if (value.isList()) {
    for (const c10::IValue& element : value.toListRef()) unpack(element, depth + 1, found);
  } else if (value.isCustomClass()) {
    const c10::IValue state = asked(value, "unpack");
    unpack(state.isNone() ? asked(value, "__getstate__") : state, depth + 1, found);
  }
}

// As JSON: a tensor's `{"dtype","shape"}`; `{"weights":[…],"numbers":[…], …}` of a packed object, with the groups and
// the direction of a convolution; a list of them; null for everything else.
inline std::string weight_json(const c10::IValue& value) {
  if (value.isTensor()) return value.toTensor().defined() ? about(value.toTensor()).text() : "null";
  if (value.isList() && !value.isIntList() && !value.isDoubleList() && !value.isBoolList()) {
    std::vector<std::string> items;
    for (const c10::IValue& item : value.toListRef()) items.push_back(weight_json(item));
    return json_array(items);
  }
  if (!value.isObject() || !value.isCustomClass()) return "null";
  Packed found;
  unpack(value, 0, found);
  JsonObject out;
  out.add("weights", json_array(found.weights)).add("numbers", json_array(found.numbers));
  const c10::IValue groups = asked(value, "groups"), transpose = asked(value, "transpose");
  if (groups.isInt()) out.add("groups", whole_json(groups.toInt()));
  if (transpose.isBool()) out.add("transpose", transpose.toBool() ? "true" : "false");
  return out.text();
}

#endif
