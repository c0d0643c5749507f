// Values as trees of JSON, in the marshalling of docs/values.md: a tensor's elements stand in the text, or in a raw file.
#pragma once

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "json.h"
#include "tensors.h"
#include "values.h"

// Where the tensors of a tree go.
class TensorSink {
 public:
  virtual ~TensorSink() = default;
  // What it takes of a strided tensor, on the CPU and contiguous.
  virtual at::Tensor part(const at::Tensor& tensor) = 0;
  // Adds what it knows of a tensor of so many elements, of which it has taken a part.
  virtual void add(const at::Tensor& part, int64_t count, JsonObject& entry) = 0;
  // Raises where it can take no part of a tensor.
  virtual void check(const at::Tensor&) {}
  // Whether the tree is to say how the tensor itself is laid out.
  virtual bool keeps_layout() {
    return false;
  }
  // Whether one value more may be written.
  virtual bool takes_another() {
    return true;
  }
};

// Their elements go to a file, one tensor after the other; the tree has their offsets.
class RawFile : public TensorSink {
 public:
  explicit RawFile(const std::string& path) : path_(path), file_(std::fopen(path.c_str(), "wb")) {
    if (file_ == nullptr) fail();
  }
  ~RawFile() override {
    if (file_ != nullptr) std::fclose(file_);
  }
  RawFile(const RawFile&) = delete;
  RawFile& operator=(const RawFile&) = delete;

  bool keeps_layout() override {
    return true;
  }

  void check(const at::Tensor& tensor) override {
    check_made(tensor);
  }

  at::Tensor part(const at::Tensor& tensor) override {
    return dense(tensor).to(at::Device(at::kCPU)).contiguous();
  }

  void add(const at::Tensor& tensor, int64_t, JsonObject& entry) override {
    static const char zeros[alignment] = {};
    write(zeros, static_cast<size_t>((alignment - at_ % alignment) % alignment));
    entry.add("offset", json_number(static_cast<long long>(at_)));
    const size_t size = static_cast<size_t>(tensor.numel()) * c10::elementSize(tensor.scalar_type());
    if (size > 0) write(static_cast<const char*>(tensor.data_ptr()), size);
  }

  // What is written is there, or this raises.
  void finish() {
    FILE* const file = file_;
    file_ = nullptr;
    if (std::fclose(file) != 0) fail();
  }

 private:
  static const int64_t alignment = 64;

  void write(const char* bytes, size_t size) {
    if (size > 0 && std::fwrite(bytes, 1, size, file_) != size) fail();
    at_ += static_cast<int64_t>(size);
  }
  void fail() const {
    throw std::runtime_error("cannot write " + path_ + ": " + std::strerror(errno));
  }

  std::string path_;
  FILE* file_;
  int64_t at_ = 0;
};

// Their elements stand in the tree: all of a small tensor, the first of a larger one.
class InText : public TensorSink {
 public:
  bool takes_another() override {
    return values_++ < most_values;
  }

  at::Tensor part(const at::Tensor& tensor) override {
    const int64_t count = tensor.numel();
    return first_elements(tensor, count <= most_whole && elements_ + count <= most_elements ? count : few);
  }

  void add(const at::Tensor& part, int64_t count, JsonObject& entry) override {
    const bool whole = count <= most_whole && elements_ + count <= most_elements;
    elements_ += part.numel();
    entry.add("value", json_array(texts(part)));
    if (!whole) entry.add("truncated", "true");
  }

 private:
  static const int64_t most_whole = 1000, few = 8; // elements of a tensor
  static const int64_t most_elements = 100000, most_values = 10000; // of all

  static std::vector<std::string> texts(const at::Tensor& tensor) {
    const c10::ScalarType type = tensor.scalar_type();
    std::vector<std::string> out;
    if (is_integral(type)) {
      const Elements<int64_t> all(tensor, c10::ScalarType::Long);
      const bool boolean = type == c10::ScalarType::Bool, large = dtype_name(type) == "uint64";
      for (int64_t i = 0; i < all.count; ++i) {
        const int64_t value = all.begin[i];
        out.push_back(boolean ? (value != 0 ? "true" : "false") : large ? std::to_string(static_cast<uint64_t>(value)) : std::to_string(value));
      }
    } else if (c10::isComplexType(type)) {
      const Elements<double> all(tensor, c10::ScalarType::ComplexDouble);
      const bool single = type != c10::ScalarType::ComplexDouble;
      for (int64_t i = 0; i < all.count; ++i) {
        out.push_back("[" + marshalled_number(all.begin[2 * i], single) + "," + marshalled_number(all.begin[2 * i + 1], single) + "]");
      }
    } else {
      const Elements<double> all(tensor, c10::ScalarType::Double);
      for (int64_t i = 0; i < all.count; ++i) out.push_back(marshalled_number(all.begin[i], type != c10::ScalarType::Double));
    }
    return out;
  }

  int64_t elements_ = 0, values_ = 0;
};

inline std::string sizes_json(const at::Tensor& tensor) {
  std::vector<std::string> sizes;
  for (const int64_t size : tensor.sizes()) sizes.push_back(json_number(static_cast<long long>(size)));
  return json_array(sizes);
}

inline std::string strides_json(const at::Tensor& tensor) {
  std::vector<std::string> strides;
  for (const int64_t stride : tensor.strides()) strides.push_back(json_number(static_cast<long long>(stride)));
  return json_array(strides);
}

inline std::string typed(const std::string& type, const std::string& json) {
  return JsonObject().add("type", json_string(type)).add("value", json).text();
}

inline std::string scalar_tree(const std::string& dtype, const std::string& json) {
  return JsonObject().add("type", "\"scalar\"").add("data_type", json_string(dtype)).add("value", json).text();
}

inline std::string tensor_tree(const at::Tensor& tensor, TensorSink& sink) {
  JsonObject out;
  if (!tensor.defined()) return out.add("type", "\"none\"").add("note", "\"an undefined tensor\"").text();
  out.add("type", "\"tensor\"");
  at::Tensor plain;
  sink.check(tensor);
  try {
    plain = sink.part(strided(tensor));
  } catch (const std::exception& error) { // a meta or nested tensor
    return out.add("data_type", json_string(dtype_name(tensor.scalar_type()))).add("note", json_string(std::string("its values cannot be read: ") + error.what())).text();
  }
  out.add("data_type", json_string(dtype_name(plain.scalar_type()))).add("shape", sizes_json(tensor));
#if LOADER_API >= 111
  if (sink.keeps_layout() && tensor.layout() == at::kStrided && !tensor.is_contiguous() && tensor.is_non_overlapping_and_dense()) out.add("strides", strides_json(tensor));
#endif
  sink.add(plain, tensor.numel(), out);
  if (quantized(tensor)) out.add("note", "\"quantized; its values are dequantized\"");
  if (tensor.layout() != at::kStrided) out.add("note", "\"sparse; its values are dense\"");
  return out.text();
}

inline std::string tree_of(const c10::IValue& value, TensorSink& sink, int depth = 0);

inline std::vector<std::string> trees_of(const std::vector<c10::IValue>& values, TensorSink& sink, int depth) {
  std::vector<std::string> out;
  for (const c10::IValue& value : values) {
    out.push_back(tree_of(value, sink, depth));
    if (out.back() == "{\"type\":\"truncated\"}") break; // as would be all that follow
  }
  return out;
}

inline std::string dict_tree(const c10::IValue& value, TensorSink& sink, int depth) {
  const auto entries = entries_of(value);
  bool named = true;
  for (const auto& entry : entries) named = named && entry.first.isString();
  if (named) {
    JsonObject items;
    for (const auto& entry : entries) items.add(entry.first.toStringRef(), tree_of(entry.second, sink, depth));
    return typed("generic_dict", items.text());
  }
  std::vector<std::string> pairs;
  for (const auto& entry : entries) pairs.push_back(json_array(trees_of({entry.first, entry.second}, sink, depth)));
  return typed("dict", json_array(pairs));
}

inline std::string tree_of(const c10::IValue& value, TensorSink& sink, int depth) {
  const int deepest = 200;
  if (depth > deepest) throw std::runtime_error("a value is nested more than 200 levels deep");
  if (!sink.takes_another()) return JsonObject().add("type", "\"truncated\"").text();
  if (value.isTensor()) return tensor_tree(value.toTensor(), sink);
  if (value.isNone()) return JsonObject().add("type", "\"none\"").text();
  if (value.isInt()) return scalar_tree("int64", json_number(static_cast<long long>(value.toInt())));
  if (value.isDouble()) return scalar_tree("float64", marshalled_number(value.toDouble()));
  if (value.isBool()) return scalar_tree("bool", value.toBool() ? "true" : "false");
  if (value.isString()) return typed("string", json_string(value.toStringRef()));
#if LOADER_API >= 111
  if (value.isComplexDouble()) {
    const c10::complex<double> number = value.toComplexDouble();
    return scalar_tree("complex128", "[" + marshalled_number(number.real()) + "," + marshalled_number(number.imag()) + "]");
  }
#endif
  if (value.isTuple()) {
    const auto& elements = value.toTuple()->elements();
    const std::vector<c10::IValue> items(elements.begin(), elements.end());
    JsonObject out;
    out.add("type", "\"tuple\"").add("value", json_array(trees_of(items, sink, depth + 1)));
    std::vector<std::string> names;
    for (const std::string& name : field_names(value)) names.push_back(json_string(name));
    if (!names.empty()) out.add("names", json_array(names));
    return out.text();
  }
  if (is_list(value)) {
    const auto& elements = elements_of(value);
    return json_array(trees_of(std::vector<c10::IValue>(elements.begin(), elements.end()), sink, depth + 1));
  }
  if (value.isGenericDict()) return dict_tree(value, sink, depth + 1);
  JsonObject other; // an object, a device, a future
  other.add("type", "\"other\"").add("value", json_string(type_text(*type_of(value))));
  if (value.isDevice()) other.add("text", json_string(device_text(value.toDevice())));
  return other.text();
}

// Of an argument, which unlike an output may be a device.
inline std::string argument_tree(const c10::IValue& value, TensorSink& sink) {
  return value.isDevice() ? typed("device", json_string(device_text(value.toDevice()))) : tree_of(value, sink);
}
