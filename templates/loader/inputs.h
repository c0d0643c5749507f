// Arguments of forward from the tokens of the wire form, guided by the type that forward declares.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "json.h"
#include "tensors.h"
#include "values.h"

class Words {
 public:
  explicit Words(std::vector<std::string> words) : words_(std::move(words)) {}
  bool done() const {
    return at_ == words_.size();
  }
  const std::string& next() {
    if (done()) throw std::runtime_error("words are missing at the end");
    return words_[at_++];
  }
  // What has not been taken yet.
  std::vector<std::string> rest() const {
    return std::vector<std::string>(words_.begin() + static_cast<std::ptrdiff_t>(at_), words_.end());
  }
  int64_t count() {
    const int64_t number = whole(next());
    if (number < 0 || number > 1000000) throw std::runtime_error("a count is out of range");
    return number;
  }

 private:
  std::vector<std::string> words_;
  size_t at_ = 0;
};

// Percent-encoded; the empty string is `-`.
inline std::string string_from(const std::string& word) {
  return word == "-" ? "" : percent_decoded(word);
}

inline at::Tensor tensor_from(Words& words) {
  const c10::ScalarType dtype = dtype_named(words.next());
  const Sizes sizes = sizes_from(words.next());
  const std::string fill = words.next();
  if (fill.compare(0, 4, "hex:") == 0) return from_hex(dtype, sizes, fill, 4);
  if (fill.compare(0, 5, "file:") != 0) return filled(dtype, sizes, fill);
  const std::vector<std::string> parts = split(fill, ':'); // a colon in the path is percent-encoded
  if (parts.size() != 4) throw std::runtime_error("'" + fill + "' is no place in a file");
  return from_file(dtype, sizes, whole(parts[1]), sizes_from(parts[2]), string_from(parts[3]));
}

// The type of a list's elements where forward does not declare one.
inline c10::TypePtr element_type(const std::string& word, const std::vector<c10::IValue>& items) {
  if (word == "tensor") return c10::TensorType::get();
  if (word == "int") return c10::IntType::get();
  if (word == "float") return c10::FloatType::get();
  if (word == "bool") return c10::BoolType::get();
  if (word == "str") return c10::StringType::get();
  if (word != "any") throw std::runtime_error("'" + word + "' is no type of a list's elements");
  if (items.empty()) return unknown_type();
  return type_of(items.front());
}

inline c10::IValue value_from(Words& words, c10::TypePtr declared, c10::Device device) {
  const std::string kind = words.next();
  if (kind == "none") return c10::IValue();
  if (declared && declared->kind() == c10::TypeKind::OptionalType) declared = declared->containedTypes()[0];
  const bool declared_list = declared && declared->kind() == c10::TypeKind::ListType;
  const bool declared_dict = declared && declared->kind() == c10::TypeKind::DictType;
  if (kind == "tensor") return tensor_from(words).to(device);
  if (kind == "int") {
    const int64_t number = whole(words.next());
    if (declared && declared->kind() == c10::TypeKind::FloatType) return static_cast<double>(number);
    return number;
  }
  if (kind == "float") return real(words.next());
  if (kind == "bool") return words.next() == "1";
  if (kind == "complex") {
#if LOADER_API >= 111
    const double re = real(words.next());
    return c10::complex<double>(re, real(words.next()));
#else
    throw std::runtime_error("this libtorch takes no complex number as an argument");
#endif
  }
  if (kind == "str") {
    const std::string text = string_from(words.next());
    if (declared && declared->kind() == c10::TypeKind::DeviceObjType) return c10::Device(text);
    return text;
  }
  if (kind == "list") {
    const std::string element = words.next();
    const c10::TypePtr inner = declared_list ? declared->containedTypes()[0] : c10::TypePtr();
    std::vector<c10::IValue> items;
    for (int64_t left = words.count(); left > 0; --left) items.push_back(value_from(words, inner, device));
    return list_of(declared_list ? inner : element_type(element, items), items);
  }
  if (kind == "tuple") {
    const bool typed = declared && declared->kind() == c10::TypeKind::TupleType;
    std::vector<c10::TypePtr> inner;
    for (size_t i = 0; typed && i < declared->containedTypes().size(); ++i) inner.push_back(declared->containedTypes()[i]);
    const int64_t count = words.count();
    std::vector<c10::IValue> items;
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
      items.push_back(value_from(words, i < inner.size() ? inner[i] : c10::TypePtr(), device));
    }
    const bool as_declared = inner.size() == items.size() && !items.empty();
    return tuple_of(as_declared ? declared : c10::TypePtr(), std::move(items));
  }
  if (kind == "dict") {
    const c10::TypePtr key_type = declared_dict ? declared->containedTypes()[0] : c10::TypePtr();
    const c10::TypePtr value_type = declared_dict ? declared->containedTypes()[1] : c10::TypePtr();
    Entries entries;
    for (int64_t left = words.count(); left > 0; --left) {
      c10::IValue key = value_from(words, key_type, device); // written before its value
      entries.emplace_back(std::move(key), value_from(words, value_type, device));
    }
    if (declared_dict) return dict_of(key_type, value_type, entries);
    if (entries.empty()) return dict_of(c10::StringType::get(), unknown_type(), entries);
    return dict_of(type_of(entries.front().first), type_of(entries.front().second), entries);
  }
  throw std::runtime_error("'" + kind + "' is no kind of value");
}
