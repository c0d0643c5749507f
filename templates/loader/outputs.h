// What forward returned: every tensor and value in it, named by where it stands.
#pragma once

#include <exception>
#include <string>
#include <vector>

#include "json.h"
#include "tensors.h"
#include "values.h"

// Where it stands in what forward returned, both for people and as JSON: keys and indices, the outermost first.
struct Place {
  std::string label; // "output", "output[0]", "output.key"
  std::vector<std::string> path;

  Place at(const std::string& shown, const std::string& step) const {
    Place inner{label + shown, path};
    inner.path.push_back(step);
    return inner;
  }
};

struct Output {
  Place place;
  c10::IValue value; // no list, tuple or dict
};

// Flat, in order. At most `limit` are kept; `left_out` counts the others.
struct Outputs {
  explicit Outputs(size_t most) : limit(most) {}

  void add(const c10::IValue& value, const Place& place = Place{"output", {}}) {
    if (value.isTuple()) {
      const auto& elements = value.toTuple()->elements();
      const std::vector<std::string> names = field_names(value);
      const bool named = names.size() == elements.size();
      for (size_t i = 0; i < elements.size(); ++i) {
        add(elements[i], named ? place.at("." + names[i], json_string(names[i])) : place.at("[" + std::to_string(i) + "]", std::to_string(i)));
      }
    } else if (is_list(value)) {
      const auto& list = elements_of(value);
      for (size_t i = 0; i < list.size(); ++i) add(list[i], place.at("[" + std::to_string(i) + "]", std::to_string(i)));
    } else if (value.isGenericDict()) {
      for (const auto& entry : entries_of(value)) {
        const c10::IValue& key = entry.first;
        const bool number = key.isInt() || key.isDouble() || key.isBool();
        const std::string text = key.isString() ? key.toStringRef() : plain(key);
        add(entry.second, place.at(key.isString() ? "." + text : "[" + text + "]", number ? text : json_string(text)));
      }
    } else if (all.size() < limit) {
      all.push_back(Output{place, value});
    } else {
      ++left_out;
    }
  }

  static std::string plain(const c10::IValue& value) {
    if (value.isInt()) return json_number(static_cast<long long>(value.toInt()));
    if (value.isDouble()) return json_number(value.toDouble());
    if (value.isBool()) return value.toBool() ? "true" : "false";
    return value.tagKind();
  }

  std::vector<Output> all;
  size_t limit;
  size_t left_out = 0;
};

inline JsonObject& begun(JsonObject& out, const Place& place, const std::string& type) {
  return out.add("label", json_string(place.label)).add("path", json_array(place.path)).add("type", json_string(type));
}

constexpr size_t LONGEST_MESSAGE = 65536; // bytes

// The message without the C++ backtrace that libtorch appends to it; 1.1 does so in errors of other classes, too.
inline std::string message_of(const std::exception& error) {
  const c10::Error* const own = dynamic_cast<const c10::Error*>(&error);
  const std::string message = own != nullptr ? own->what_without_backtrace() : error.what();
  size_t size = message.find("\nframe #0: ");
  if (size > LONGEST_MESSAGE && message.size() > LONGEST_MESSAGE) { // a model may raise a text of any size
    size = LONGEST_MESSAGE;
    while (size > 0 && (message[size] & 0xC0) == 0x80) --size; // not within a character
    return message.substr(0, size) + " …";
  }
  return message.substr(0, size);
}

inline std::string tensor_json(const Place& place, const at::Tensor& tensor) {
  JsonObject out;
  begun(out, place, "tensor");
  if (!tensor.defined()) return out.add("note", "\"an undefined tensor\"").text();
  out.add("device", json_string(device_text(tensor.device())));
  out.add("dtype", json_string(dtype_name(tensor.scalar_type())));
  try {
    std::vector<std::string> sizes;
    for (const int64_t size : tensor.sizes()) sizes.push_back(json_number(static_cast<long long>(size)));
    out.add("shape", json_array(sizes));
    const Summary sum = summary(tensor);
    out.add("values", json_array(sum.values)).add("min", sum.min).add("max", sum.max).add("mean", sum.mean);
    out.add("non_finite", json_number(static_cast<long long>(sum.non_finite)));
    if (quantized(tensor)) out.add("note", "\"quantized; its values are shown dequantized\"");
    if (tensor.layout() != at::kStrided) out.add("note", "\"sparse; its values are shown dense\"");
  } catch (const std::exception& error) { // a meta or nested tensor, a dtype that cannot be converted
    out.add("note", json_string("its values cannot be shown: " + message_of(error)));
  }
  return out.text();
}

inline std::string output_json(const Output& output) {
  const c10::IValue& value = output.value;
  if (value.isTensor()) return tensor_json(output.place, value.toTensor());
#if LOADER_API >= 111
  if (value.isComplexDouble()) {
    const c10::complex<double> number = value.toComplexDouble();
    JsonObject out;
    begun(out, output.place, "complex").add("value", "[" + json_number(number.real()) + "," + json_number(number.imag()) + "]");
    return out.text();
  }
#endif
  const bool known = value.isInt() || value.isDouble() || value.isBool() || value.isString() || value.isNone();
  const std::string type = value.isInt() ? "int"
      : value.isDouble()                 ? "float"
      : value.isBool()                   ? "bool"
      : value.isString()                 ? "str"
      : value.isNone()                   ? "none"
                                         : value.tagKind();
  const std::string json = value.isString() ? json_string(value.toStringRef())
      : value.isNone()                      ? "null"
      : known                               ? Outputs::plain(value)
      : value.isDevice()                    ? json_string(device_text(value.toDevice()))
                                            : json_string(type_text(*type_of(value)));
  JsonObject out;
  return begun(out, output.place, type).add("value", json).text();
}
