// The structure of a compiled model's inputs and outputs: the tree specs of torch.utils._pytree that it carries as
// JSON. Tensors are taken out of a value in the order that the model takes them, and put back into one.
#pragma once

#include "api.h"

#include <cctype>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "json.h"
#include "values.h"

// JSON text, read: as little as tree specs need.
class JsonValue {
 public:
  enum Kind { null, boolean, number, string, array, object };

  // Throws std::runtime_error where the text is not JSON.
  static JsonValue read(const std::string& text) {
    size_t at = 0;
    const JsonValue value = read(text, at, 0);
    skip(text, at);
    if (at != text.size()) throw std::runtime_error("the call spec of the model is not JSON");
    return value;
  }

  Kind kind = null;
  std::string text; // of a string; of a number and a bool as they stand there
  std::vector<JsonValue> items; // of an array; the values of an object
  std::vector<std::string> names; // of an object

  const JsonValue* find(const std::string& name) const {
    for (size_t i = 0; i < names.size(); ++i) {
      if (names[i] == name) return &items[i];
    }
    return nullptr;
  }

 private:
  static void skip(const std::string& text, size_t& at) {
    while (at < text.size() && std::isspace(static_cast<unsigned char>(text[at]))) ++at;
  }

  static bool take(const std::string& text, size_t& at, const std::string& token) {
    skip(text, at);
    if (text.compare(at, token.size(), token) != 0) return false;
    at += token.size();
    return true;
  }

  static void need(const std::string& text, size_t& at, const std::string& token) {
    if (!take(text, at, token)) throw std::runtime_error("the call spec of the model is not JSON: '" + token + "' is missing");
  }

  static void append_utf8(std::string& out, unsigned long code) {
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x800) {
      out += static_cast<char>(0xC0 | (code >> 6));
      out += static_cast<char>(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
      out += static_cast<char>(0xE0 | (code >> 12));
      out += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
      out += static_cast<char>(0x80 | (code & 0x3F));
    } else {
      out += static_cast<char>(0xF0 | (code >> 18));
      out += static_cast<char>(0x80 | ((code >> 12) & 0x3F));
      out += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
      out += static_cast<char>(0x80 | (code & 0x3F));
    }
  }

  static unsigned long escaped(const std::string& text, size_t& at) { // behind `\u`
    const unsigned long code = std::strtoul(text.substr(at, 4).c_str(), nullptr, 16);
    at += 4;
    return code;
  }

  static std::string quoted(const std::string& text, size_t& at) {
    need(text, at, "\"");
    std::string out;
    while (at < text.size() && text[at] != '"') {
      const char letter = text[at++];
      if (letter != '\\' || at >= text.size()) {
        out += letter;
        continue;
      }
      const char code = text[at++];
      if (code == 'u') {
        unsigned long point = escaped(text, at);
        if (point >= 0xD800 && point < 0xDC00 && text.compare(at, 2, "\\u") == 0) {
          at += 2;
          point = 0x10000 + ((point - 0xD800) << 10) + (escaped(text, at) - 0xDC00);
        }
        append_utf8(out, point);
      } else {
        out += code == 'n' ? '\n' : code == 't' ? '\t' : code == 'r' ? '\r' : code == 'b' ? '\b' : code == 'f' ? '\f' : code;
      }
    }
    need(text, at, "\"");
    return out;
  }

  static JsonValue read(const std::string& text, size_t& at, int depth) {
    if (depth > 200) throw std::runtime_error("the call spec of the model nests too deeply");
    JsonValue value;
    skip(text, at);
    if (take(text, at, "null")) return value;
    const bool braces = text.compare(at, 1, "{") == 0;
    if (braces || text.compare(at, 1, "[") == 0) {
      const std::string end = braces ? "}" : "]";
      value.kind = braces ? object : array;
      for (++at; !take(text, at, end);) {
        if (!value.items.empty()) need(text, at, ",");
        if (braces) {
          value.names.push_back(quoted(text, at));
          need(text, at, ":");
        }
        value.items.push_back(read(text, at, depth + 1));
      }
      return value;
    }
    if (text.compare(at, 1, "\"") == 0) {
      value.kind = string;
      value.text = quoted(text, at);
      return value;
    }
    const size_t start = at;
    while (at < text.size() && (std::isalnum(static_cast<unsigned char>(text[at])) || text[at] == '.' || text[at] == '-' || text[at] == '+')) ++at;
    value.text = text.substr(start, at - start);
    value.kind = value.text == "true" || value.text == "false" ? boolean : number;
    if (value.text.empty()) throw std::runtime_error("the call spec of the model is not JSON");
    return value;
  }
};

// One node of a tree.
struct Spec {
  enum Kind { leaf, list, tuple, dict };
  Kind kind = leaf;
  std::vector<c10::IValue> keys; // of a dict, in the model's order
  std::vector<Spec> parts;

  // `[1, {"type", "context", "children_spec"}]`
  static Spec read(const std::string& text) {
    const JsonValue all = JsonValue::read(text);
    if (all.kind != JsonValue::array || all.items.size() != 2) throw std::runtime_error("the call spec of the model is of an unknown form");
    return from(all.items[1]);
  }

  size_t leaves() const {
    if (kind == leaf) return 1;
    size_t count = 0;
    for (const Spec& part : parts) count += part.leaves();
    return count;
  }

  // `{"kind":"leaf"|"list"|"tuple"|"dict","keys":[…],"parts":[…]}`
  std::string json() const {
    static const char* const kinds[] = {"\"leaf\"", "\"list\"", "\"tuple\"", "\"dict\""};
    std::vector<std::string> inner, names;
    for (const Spec& part : parts) inner.push_back(part.json());
    for (const c10::IValue& key : keys) {
      names.push_back(key.isString() ? json_string(key.toStringRef()) : key.isBool() ? (key.toBool() ? "true" : "false") : key.isInt() ? std::to_string(key.toInt()) : json_number(key.toDouble()));
    }
    JsonObject out;
    out.add("kind", kinds[kind]);
    if (kind == dict) out.add("keys", json_array(names));
    if (kind != leaf) out.add("parts", json_array(inner));
    return out.text();
  }

  // The tensors in a value, in the order that the model takes them. What is no tensor was fixed when the model was
  // exported, and is left out, as Python's aoti_load_package does.
  void flatten(const c10::IValue& value, const std::string& place, std::vector<at::Tensor>& out) const {
    if (kind == leaf) {
      if (value.isTensor()) {
        out.push_back(value.toTensor());
      } else if (is_list(value) || value.isTuple() || value.isGenericDict()) {
        throw std::runtime_error(place + " must be one tensor, and is a list, tuple or dict");
      }
    } else if (kind == dict) {
      if (!value.isGenericDict()) throw std::runtime_error(place + " must be a dict with " + shown_keys());
      const Entries entries = entries_of(value);
      if (entries.size() != parts.size()) throw std::runtime_error(place + " must be a dict with " + shown_keys());
      for (size_t i = 0; i < parts.size(); ++i) {
        const c10::IValue* found = nullptr;
        for (const auto& entry : entries) {
          if (shown(entry.first) == shown(keys[i])) found = &entry.second;
        }
        if (found == nullptr) throw std::runtime_error(place + " must be a dict with " + shown_keys());
        parts[i].flatten(*found, place + "[" + shown(keys[i]) + "]", out);
      }
    } else {
      std::vector<c10::IValue> items;
      if (value.isTuple()) {
        for (const c10::IValue& item : value.toTuple()->elements()) items.push_back(item);
      } else if (is_list(value)) {
        for (const c10::IValue& item : elements_of(value)) items.push_back(item);
      }
      const bool right = (value.isTuple() || is_list(value)) && items.size() == parts.size();
      if (!right) throw std::runtime_error(place + " must be a " + (kind == list ? "list" : "tuple") + " of " + std::to_string(parts.size()));
      for (size_t i = 0; i < parts.size(); ++i) parts[i].flatten(items[i], place + "[" + std::to_string(i) + "]", out);
    }
  }

  // A value of this structure; tensors are taken from `at` on.
  c10::IValue unflatten(const std::vector<at::Tensor>& tensors, size_t& at) const {
    if (kind == leaf) {
      const at::Tensor& tensor = tensors.at(at++);
      return tensor.defined() ? c10::IValue(tensor) : c10::IValue(); // None has no tensor
    }
    std::vector<c10::IValue> items;
    for (const Spec& part : parts) items.push_back(part.unflatten(tensors, at));
    if (kind == list) return list_of(unknown_type(), items);
    if (kind == tuple) return tuple_of(c10::TypePtr(), std::move(items));
    Entries entries;
    for (size_t i = 0; i < items.size(); ++i) entries.emplace_back(keys[i], items[i]);
    return dict_of(keys.empty() ? c10::StringType::get() : type_of(keys.front()), unknown_type(), entries);
  }

  static std::string shown(const c10::IValue& key) {
    if (key.isString()) return "'" + key.toStringRef() + "'";
    if (key.isInt()) return std::to_string(key.toInt());
    if (key.isBool()) return key.toBool() ? "True" : "False";
    return json_number(key.toDouble());
  }

 private:
  std::string shown_keys() const {
    std::string text = parts.empty() ? "no keys" : "the keys ";
    for (size_t i = 0; i < keys.size(); ++i) text += (i > 0 ? ", " : "") + shown(keys[i]);
    return text;
  }

  static Spec from(const JsonValue& node) {
    const JsonValue* const type = node.find("type");
    const JsonValue* const context = node.find("context");
    const JsonValue* const children = node.find("children_spec");
    if (type == nullptr || children == nullptr) throw std::runtime_error("the call spec of the model is of an unknown form");
    Spec spec;
    if (type->kind == JsonValue::null) return spec;
    for (const JsonValue& child : children->items) spec.parts.push_back(from(child));
    const std::string& name = type->text;
    const bool lists = name.size() >= 4 && name.compare(name.size() - 4, 4, "list") == 0;
    spec.kind = lists || name == "collections.deque" ? list : tuple;
    if (context != nullptr && name != "collections.namedtuple" && name != "builtins.tuple") spec.read_keys(*context);
    const bool dicts = name.size() >= 4 && (name.compare(name.size() - 4, 4, "dict") == 0 || name.compare(name.size() - 4, 4, "Dict") == 0);
    if (spec.keys.empty() && spec.parts.empty() && dicts) spec.kind = dict;
    return spec;
  }

  // A context that names each child: the keys of a dict, `[[names], …]` of a dataclass, `dict_context` of a defaultdict.
  void read_keys(const JsonValue& context) {
    JsonValue value = context;
    try {
      if (value.kind == JsonValue::string) value = JsonValue::read(value.text);
    } catch (const std::exception&) {
      return; // a class's name
    }
    if (const JsonValue* const inner = value.find("dict_context")) value = JsonValue(*inner);
    if (value.kind == JsonValue::array && !value.items.empty() && value.items[0].kind == JsonValue::array) value = JsonValue(value.items[0]);
    if (value.kind != JsonValue::array || value.items.size() != parts.size() || parts.empty()) return;
    std::vector<c10::IValue> found;
    for (const JsonValue& key : value.items) {
      if (key.kind == JsonValue::string) {
        found.emplace_back(key.text);
      } else if (key.kind == JsonValue::boolean) {
        found.emplace_back(key.text == "true");
      } else if (key.kind == JsonValue::number) {
        const bool whole = key.text.find_first_of(".eE") == std::string::npos;
        found.push_back(whole ? c10::IValue(static_cast<int64_t>(std::atoll(key.text.c_str()))) : c10::IValue(std::atof(key.text.c_str())));
      } else {
        return;
      }
      if (found.back().tagKind() != found.front().tagKind()) return; // an IValue's dict has one type of keys
    }
    kind = dict;
    keys = std::move(found);
  }
};
