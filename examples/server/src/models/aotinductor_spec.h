// The structure of a compiled model's arguments and results: the tree specs of torch.utils._pytree that it carries as
// JSON. Tensors are taken out of a value in the order that the model takes them, and put back into one.
#pragma once

#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>
#include <simdjson.h>

#include <string>
#include <vector>

#include "../servable.h"

struct Spec {
  enum Kind { leaf, list, tuple, dict };
  Kind kind = leaf;
  std::vector<c10::IValue> keys;  // of a dict, in the model's order
  std::vector<Spec> parts;

  // `[1, {"type", "context", "children_spec"}]`
  static Spec read(const std::string& text) {
    simdjson::dom::parser parser;
    simdjson::dom::element all, node;
    if (parser.parse(text).get(all) != simdjson::SUCCESS || all.at(1).get(node) != simdjson::SUCCESS) throw std::runtime_error("the call spec of the model is of an unknown form");
    return from(node);
  }

  std::size_t leaves() const {
    if (kind == leaf) return 1;
    std::size_t count = 0;
    for (const Spec& part : parts) count += part.leaves();
    return count;
  }

  // What is no tensor was fixed when the model was exported, and is left out.
  void flatten(const c10::IValue& value, const std::string& place, std::vector<at::Tensor>& out) const {
    const bool sequence = value.isTuple() || value.isList();
    if (kind == leaf) {
      if (value.isTensor()) {
        out.push_back(value.toTensor());
      } else if (sequence || value.isGenericDict()) {
        throw RequestError(400, place + " must be one tensor");
      }
      return;
    }
    if (kind == dict) {
      const bool right = value.isGenericDict() && value.toGenericDict().size() == parts.size();
      for (std::size_t i = 0; right && i < parts.size(); ++i) {
        bool found = false;
        for (const auto& entry : value.toGenericDict()) {
          if (shown(entry.key()) != shown(keys[i])) continue;
          found = true;
          parts[i].flatten(entry.value(), place + "." + shown(keys[i]), out);
        }
        if (!found) throw RequestError(400, place + " has no key " + shown(keys[i]));
      }
      if (!right) throw RequestError(400, place + " must be a dict of " + std::to_string(parts.size()));
      return;
    }
    std::vector<c10::IValue> items;
    if (value.isTuple()) {
      const auto elements = value.toTuple();
      items.assign(elements->elements().begin(), elements->elements().end());
    } else if (value.isList()) {
      for (const c10::IValue& item : value.toListRef()) items.push_back(item);
    }
    if (!sequence || items.size() != parts.size()) throw RequestError(400, place + " must be a list or tuple of " + std::to_string(parts.size()));
    for (std::size_t i = 0; i < parts.size(); ++i) parts[i].flatten(items[i], place + "[" + std::to_string(i) + "]", out);
  }

  c10::IValue unflatten(const std::vector<at::Tensor>& tensors, std::size_t& at) const {
    if (kind == leaf) {
      const at::Tensor& tensor = tensors.at(at++);
      return tensor.defined() ? c10::IValue(tensor) : c10::IValue();
    }
    std::vector<c10::IValue> items;
    for (const Spec& part : parts) items.push_back(part.unflatten(tensors, at));
    if (kind == tuple) return c10::ivalue::Tuple::create(std::move(items));
    if (kind == list) {
      c10::impl::GenericList out(c10::AnyType::get());
      for (const c10::IValue& item : items) out.push_back(item);
      return out;
    }
    c10::impl::GenericDict out(keys.empty() ? c10::TypePtr(c10::StringType::get()) : keys.front().type(), c10::AnyType::get());
    for (std::size_t i = 0; i < items.size(); ++i) out.insert(keys[i], items[i]);
    return out;
  }

  static std::string shown(const c10::IValue& key) {
    if (key.isString()) return key.toStringRef();
    if (key.isInt()) return std::to_string(key.toInt());
    if (key.isBool()) return key.toBool() ? "True" : "False";
    return std::to_string(key.toDouble());
  }

 private:
  static bool ends(std::string_view text, std::string_view with) { return text.size() >= with.size() && text.substr(text.size() - with.size()) == with; }

  static Spec from(simdjson::dom::element node) {
    Spec spec;
    std::string_view name;
    if (node["type"].get(name) != simdjson::SUCCESS) return spec;  // null: a leaf
    simdjson::dom::array children;
    if (node["children_spec"].get(children) != simdjson::SUCCESS) throw std::runtime_error("the call spec of the model is of an unknown form");
    for (const simdjson::dom::element child : children) spec.parts.push_back(from(child));
    spec.kind = ends(name, "list") || name == "collections.deque" ? list : tuple;
    simdjson::dom::element context;
    if (name != "collections.namedtuple" && name != "builtins.tuple" && node["context"].get(context) == simdjson::SUCCESS) spec.read_keys(context);
    if (spec.keys.empty() && spec.parts.empty() && (ends(name, "dict") || ends(name, "Dict"))) spec.kind = dict;
    return spec;
  }

  // A context that names each child: the keys of a dict, `[[names], …]` of a dataclass, `dict_context` of a defaultdict. It is
  // JSON, or JSON in a string.
  void read_keys(simdjson::dom::element context) {
    std::string_view text;
    simdjson::dom::parser parser;
    if (context.get(text) == simdjson::SUCCESS && parser.parse(simdjson::padded_string(text)).get(context) != simdjson::SUCCESS) return;  // a class's name
    simdjson::dom::element inner;
    if (context.is_object() && context["dict_context"].get(inner) == simdjson::SUCCESS) context = inner;
    if (context.is_array() && context.at(0).get(inner) == simdjson::SUCCESS && inner.is_array()) context = inner;
    simdjson::dom::array names;
    if (context.get(names) != simdjson::SUCCESS || names.size() != parts.size() || parts.empty()) return;
    std::vector<c10::IValue> found;
    for (const simdjson::dom::element key : names) {
      if (key.is_string()) {
        found.emplace_back(std::string(key.get_string().value_unsafe()));
      } else if (key.is_bool()) {
        found.emplace_back(key.get_bool().value_unsafe());
      } else if (key.is_int64()) {
        found.emplace_back(key.get_int64().value_unsafe());
      } else if (key.is_double()) {
        found.emplace_back(key.get_double().value_unsafe());
      } else {
        return;
      }
      if (found.back().tagKind() != found.front().tagKind()) return;  // a dict has one type of keys
    }
    kind = dict;
    keys = std::move(found);
  }
};
